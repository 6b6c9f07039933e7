"""Decode the photo of an event and format the response, shared by all minimal functions."""

import base64
import io
import os

import numpy as np
from PIL import Image

SIZE = int(os.environ["SIZE"])
"""Width and height of the model's input in pixels."""


def batch(event):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typical handlers have no annotations
    """Decode the event's photo to uint8 ``[1, SIZE, SIZE, 3]``, scaled by libjpeg while decoding."""
    image = Image.open(io.BytesIO(base64.b64decode(event["image"])))
    image.draft("RGB", (2 * SIZE, 2 * SIZE))
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))[None]


def response(probabilities):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Format the most probable class and its probability."""
    best = int(np.argmax(probabilities))
    return {"class": best, "score": float(probabilities[best])}
