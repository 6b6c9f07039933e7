"""Write a bundle's test pictures: generated pictures with each variant's predictions, which the self-test repeats."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.native_logs import quiet_native_logs
from transferlite.images.decoder import RGB, decode
from transferlite.images.input_spec import InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import FLOAT32
from transferlite.predict.self_test import SelfTest
from transferlite.registry.manifest import GOLDEN, Variant

PICTURES = 2
"""Test pictures in a bundle. Each costs a forward pass whenever the model is loaded."""

_HEIGHT, _WIDTH = 48, 64
_COLOURS = ((200, 60, 40), (40, 120, 210), (60, 170, 70), (230, 200, 60))


def write_test_pictures(folder: Path, variants: Mapping[str, Variant], spec: InputSpec) -> str:
    """Write the test pictures and each TFLite file's predictions for them to the bundle; returns the file's path."""
    with quiet_native_logs():
        files = {name: folder / variant.path for name, variant in variants.items() if variant.path.endswith(".tflite")}
        models = {name: TFLiteClassifier(path) for name, path in files.items()}
    encoded = [_ppm(picture) for picture in draw_pictures()]
    decoded = [decode(picture, spec) for picture in encoded]
    chosen = most_informative(np.stack([models[FLOAT32](picture) for picture in decoded]), PICTURES)
    expected = {name: np.stack([model(decoded[i]) for i in chosen]) for name, model in models.items()}
    (folder / GOLDEN).write_bytes(SelfTest(tuple(encoded[i] for i in chosen), expected).to_json())
    return GOLDEN


def most_informative(probabilities: NDArray[np.float32], count: int) -> list[int]:
    """Choose pictures whose predictions ``[N, C]`` reveal most changes of a model; returns their indices.

    The first is the picture with the lowest confidence: where a model is certain, its probabilities hide changes in
    earlier layers. Each further picture has the prediction furthest from those chosen, so that no constant output fits
    all.
    """
    chosen = [int(probabilities.max(axis=1).argmin())]
    while len(chosen) < min(count, len(probabilities)):
        distance = np.abs(probabilities[:, None] - probabilities[chosen]).max(axis=2).min(axis=1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return chosen


def draw_pictures() -> list[RGB]:
    """Draw 16 pictures, uint8 ``[48, 64, 3]``: gradients, discs, stripes and noise; the same on every call.

    They are neither square nor of a model's size, so that the self-test covers the decoder's resizing.
    """
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH] / np.array([_HEIGHT, _WIDTH])[:, None, None]
    pictures: list[RGB] = []
    for number, colour in enumerate(_COLOURS):
        other = _COLOURS[number - 1]
        disc = (x - 0.3 - 0.1 * number) ** 2 + (y - 0.5) ** 2 < 0.08
        noise = np.random.default_rng(number).random((6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        pictures.append(_blend(x * y if number % 2 else (x + y) / 2, colour, other))
        pictures.append(_blend(disc.astype(float), colour, other))
        pictures.append(_blend(((x * 8 + y * 4 * number) % 1 < 0.5).astype(float), colour, other))
        pictures.append(np.asarray(noise * np.array(colour) * 1.1, np.uint8))
    return pictures


def _blend(share: NDArray[np.float64], colour: tuple[int, ...], other: tuple[int, ...]) -> RGB:
    """Mix two colours, ``share`` ``[H, W]`` of the first."""
    share = share[..., None]
    return np.asarray(np.rint(share * np.array(colour) + (1 - share) * np.array(other)), np.uint8)


def _ppm(picture: RGB) -> bytes:
    """Encode as PPM: lossless, and Pillow's fastest plugin to import at a cold start."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PPM")
    return file.getvalue()
