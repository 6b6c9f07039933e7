"""What a request's query asks for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from inference_lambda.events.http import Request
from inference_lambda.http.problems import Problem
from transferlite.registry.manifest import is_model_id

MOST_TOP = 1000
"""The most labels that a request may ask for."""


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        top: how many labels to tell.
        threshold: the probability below which the label is ``unknown``; the model's own if None.
        explain: whether to tell where in the photo the label comes from.
        model_id: the version to ask; the one in service if None.
    """

    top: int = 3
    threshold: float | None = None
    explain: bool = False
    model_id: str | None = None


def options_of(request: Request, *known: str) -> Options:
    """The options in a query, of which this path knows some: ``top``, ``threshold``, ``explain``, ``model``.

    Raises:
        Problem: 400 for one that it does not know, that is there twice, or whose value cannot be one.
    """
    given = dict(request.query)
    if len(given) != len(request.query) or given.keys() - set(known):
        raise Problem(400, "bad-query", f"There are {', '.join(known)}, each at most once.")
    return Options(_top(given), _threshold(given), _explain(given), _model_id(given))


def _top(given: Mapping[str, str]) -> int:
    text = given.get("top", "3")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST_TOP):
        raise Problem(400, "bad-query", f"top is a number from 1 to {MOST_TOP}.")
    return int(text)


def _threshold(given: Mapping[str, str]) -> float | None:
    if "threshold" not in given:
        return None
    try:
        value = float(given["threshold"])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Problem(400, "bad-query", "threshold is a number from 0 to 1.")
    return value


def _explain(given: Mapping[str, str]) -> bool:
    if given.get("explain", "0") not in {"0", "1"}:
        raise Problem(400, "bad-query", "explain is 0 or 1.")
    return given.get("explain") == "1"


def _model_id(given: Mapping[str, str]) -> str | None:
    model_id = given.get("model")
    if model_id is not None and not is_model_id(model_id):
        raise Problem(400, "bad-query", "model is the id of a version.")
    return model_id
