"""Query string of a request: ``top``, ``threshold``, ``explain`` and ``model``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from inference_lambda.events.http import HttpRequest
from inference_lambda.http.problems import Problem
from transferlite.registry.manifest import is_model_id

MAX_TOP = 1000
"""Most labels that a request may ask for."""


@dataclass(frozen=True)
class QueryOptions:
    """Options in the query string.

    Attributes:
        top: number of labels to return.
        threshold: probability below which the label is ``unknown``; None for the model's own.
        explain: whether to return where in the photo the label comes from.
        model_id: model version to use; None for the current one.
    """

    top: int = 3
    threshold: float | None = None
    explain: bool = False
    model_id: str | None = None


def parse_query(request: HttpRequest, *allowed: str) -> QueryOptions:
    """Parse the query string.

    Args:
        request: the request.
        allowed: options of its path, out of ``top``, ``threshold``, ``explain`` and ``model``.

    Raises:
        Problem: 400 if an option is not allowed, appears twice or has an invalid value.
    """
    given = dict(request.query)
    if len(given) != len(request.query) or given.keys() - set(allowed):
        raise Problem(400, "bad-query", f"The options are {', '.join(allowed)}, each at most once.")
    return QueryOptions(_top(given), _threshold(given), _explain(given), _model_id(given))


def _top(given: Mapping[str, str]) -> int:
    text = given.get("top", "3")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_TOP):
        raise Problem(400, "bad-query", f"top must be a whole number from 1 to {MAX_TOP}.")
    return int(text)


def _threshold(given: Mapping[str, str]) -> float | None:
    if "threshold" not in given:
        return None
    try:
        value = float(given["threshold"])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Problem(400, "bad-query", "threshold must be a number from 0 to 1.")
    return value


def _explain(given: Mapping[str, str]) -> bool:
    if given.get("explain", "0") not in {"0", "1"}:
        raise Problem(400, "bad-query", "explain must be 0 or 1.")
    return given.get("explain") == "1"


def _model_id(given: Mapping[str, str]) -> str | None:
    model_id = given.get("model")
    if model_id is not None and not is_model_id(model_id):
        raise Problem(400, "bad-query", "model must be the id of a model version.")
    return model_id
