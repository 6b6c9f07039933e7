"""The photo in an event, for every side alike."""

import base64
import io
import os

import numpy as np
from PIL import Image

SIZE = int(os.environ["SIZE"])
"""The model's side in pixels."""


def batch(event):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - as such handlers are written
    """The event's photo as uint8 ``[1, SIZE, SIZE, 3]``, decoded with libjpeg's own scaling."""
    image = Image.open(io.BytesIO(base64.b64decode(event["image"])))
    image.draft("RGB", (2 * SIZE, 2 * SIZE))
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))[None]


def answer(probabilities):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """The best class and its probability."""
    best = int(np.argmax(probabilities))
    return {"class": best, "score": float(probabilities[best])}
