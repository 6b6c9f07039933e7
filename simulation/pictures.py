"""Photos of the simulated world: noisy pictures whose colour is their class, and what people upload by mistake."""

import io
import random

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "red": (200, 50, 30)}


def photo(label: str, number: int) -> bytes:
    """A JPEG of a class; each number gives another."""
    noise = np.random.default_rng([number, *COLOURS[label]])
    pixels = noise.normal(COLOURS[label], 25, (48, 64, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def poison(chance: random.Random, number: int) -> bytes:
    """A file that is no usable photo: text, nothing, or half of a JPEG."""
    whole = photo("red", 10_000 + number)
    return chance.choice([b"%PDF-1.7 a bill, not a photo", b"", whole[: len(whole) // 2]])
