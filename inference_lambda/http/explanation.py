"""Explanation of a prediction: a heat map of where in the photo the label comes from."""

import base64
import io
import math
from typing import Any

from inference_lambda.http.problems import Problem
from transferlite.errors import TimeLimitError
from transferlite.images.decoder import RGB
from transferlite.predict.explain import explain, heat_layer
from transferlite.predict.predictor import Predictor

MAX_SECONDS = 20.0
"""Time limit of an explanation; API Gateway waits for 29 s."""

_RESERVED_SECONDS = 2.0
"""Time kept for the response before Lambda stops the function."""


def explain_photo(predictor: Predictor, photo: RGB, seconds_left: float = math.inf) -> dict[str, Any]:
    """Explain the most probable label of a photo in 82 forward passes.

    In the result, ``heat`` is a PNG as a data URI, to be stretched over the upright photo. ``part`` is the window whose
    covering lowers the label's probability most, as fractions of width and height; ``covered_score`` is the
    probability with that window covered.

    Args:
        predictor: the model.
        photo: uint8 ``[H, W, 3]``.
        seconds_left: seconds until Lambda stops the function.

    Raises:
        Problem: 503 if it takes longer than :data:`MAX_SECONDS`, or than the function has left.
    """
    limit = max(min(MAX_SECONDS, seconds_left - _RESERVED_SECONDS), 0.0)
    try:
        heat_map = explain(predictor, photo, seconds=limit)
    except TimeLimitError as error:
        detail = f"The heat map takes longer than {limit:.3g} seconds; repeat the request without explain."
        raise Problem(503, "explain-too-slow", detail) from error
    png = io.BytesIO()
    heat_layer(heat_map).save(png, "PNG")
    sides = ("left", "top", "right", "bottom")
    return {
        "label": heat_map.label,
        "score": heat_map.score,
        "part": dict(zip(sides, heat_map.part, strict=True)) if heat_map.part else None,
        "covered_score": heat_map.covered_score,
        "heat": f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}",
    }
