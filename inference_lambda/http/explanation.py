"""Where in a photo its label comes from, as an HTTP answer tells it."""

import base64
import io
import math
from typing import Any

from inference_lambda.http.problems import Problem
from transferlite.errors import TimeLimitError
from transferlite.images.decoder import RGB
from transferlite.predict.explain import explain, heat_layer
from transferlite.predict.predictor import Predictor

MOST_SECONDS = 20.0
"""What an explanation may take: API Gateway waits for 29 seconds, and a page's reader for less."""

_MARGIN = 2.0
"""Seconds of the function's time that are left for the answer."""


def explanation_of(predictor: Predictor, photo: RGB, seconds_left: float = math.inf) -> dict[str, Any]:
    """The photo's best label and where it comes from: 82 forward passes.

    ``heat`` is a PNG to be stretched over the whole upright photo, as a data URI. ``part`` is the window whose covering
    costs the label most, as shares of the photo's width and height, and ``covered_score`` the label's probability then.

    Args:
        predictor: the model.
        photo: uint8 ``[H, W, 3]``.
        seconds_left: until the function is stopped.

    Raises:
        Problem: 503 where it takes longer than :data:`MOST_SECONDS`, or than the function has.
    """
    limit = max(min(MOST_SECONDS, seconds_left - _MARGIN), 0.0)
    try:
        found = explain(predictor, photo, seconds=limit)
    except TimeLimitError as error:
        told = f"A heat map takes longer than {limit:.3g} seconds here; ask without explain."
        raise Problem(503, "explain-too-slow", told) from error
    file = io.BytesIO()
    heat_layer(found).save(file, "PNG")
    sides = ("left", "top", "right", "bottom")
    return {
        "label": found.label,
        "score": found.score,
        "part": dict(zip(sides, found.part, strict=True)) if found.part else None,
        "covered_score": found.covered,
        "heat": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
    }
