"""Photos of the simulation: noisy images whose colour is their class, and unusable files."""

import io
import random

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "red": (200, 50, 30)}


def make_photo(label: str, number: int) -> bytes:
    """Return a JPEG of a class; each number gives a different photo."""
    noise = np.random.default_rng([number, *COLOURS[label]])
    pixels = noise.normal(COLOURS[label], 25, (48, 64, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def make_unusable_file(rng: random.Random, number: int) -> bytes:
    """Return a file that is not a usable photo: text, an empty file or half a JPEG."""
    jpeg = make_photo("red", 10_000 + number)
    return rng.choice([b"%PDF-1.7 an invoice, not a photo", b"", jpeg[: len(jpeg) // 2]])
