"""Make small JPEGs whose class is their colour, so that any network can learn them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "red": (200, 50, 30), "green": (40, 180, 60)}


def jpeg(colour: str, number: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """Make a noisy JPEG of one colour; ``size`` is (width, height), and each ``number`` gives another picture."""
    random = np.random.default_rng([number, *COLOURS[colour]])
    pixels = random.normal(COLOURS[colour], 25, (size[1], size[0], 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_folders(root: Path, count: int = 12, classes: tuple[str, ...] = ("blue", "red")) -> Path:
    """Write ``count`` pictures a class to ``root``, named ``blue/blue.0.jpg``."""
    for colour in classes:
        (root / colour).mkdir(parents=True)
        for number in range(count):
            (root / colour / f"{colour}.{number}.jpg").write_bytes(jpeg(colour, number))
    return root
