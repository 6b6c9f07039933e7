"""The test pictures of a bundle: made by code, answered by every variant as the gate ran it, for those who load it."""

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

KEPT = 2
"""How many pictures a bundle has. Each costs one forward pass whenever the model is loaded."""

_HEIGHT, _WIDTH = 48, 64
_COLOURS = ((200, 60, 40), (40, 120, 210), (60, 170, 70), (230, 200, 60))


def write_golden(folder: Path, variants: Mapping[str, Variant], spec: InputSpec) -> str:
    """Write the test pictures and what each TFLite file of the bundle in ``folder`` says of them; returns its path."""
    with quiet_native_logs():
        files = {name: folder / one.path for name, one in variants.items() if one.path.endswith(".tflite")}
        models = {name: TFLiteClassifier(path) for name, path in files.items()}
    pictures = [_ppm(picture) for picture in drawn()]
    decoded = [decode(picture, spec) for picture in pictures]
    kept = telling(np.stack([models[FLOAT32](picture) for picture in decoded]), KEPT)
    expected = {name: np.stack([model(decoded[place]) for place in kept]) for name, model in models.items()}
    (folder / GOLDEN).write_bytes(SelfTest(tuple(pictures[place] for place in kept), expected).to_json())
    return GOLDEN


def telling(answers: NDArray[np.float32], count: int) -> list[int]:
    """Which pictures tell most of a model, by its answers ``[N, C]``: the one it is least sure of, then the others.

    Where a model is sure, its probabilities hide what changed before them. Each further picture is the one whose answer
    is furthest from those chosen, so that no constant answer fits them all.
    """
    chosen = [int(answers.max(axis=1).argmin())]
    while len(chosen) < min(count, len(answers)):
        apart = np.abs(answers[:, None] - answers[chosen]).max(axis=2).min(axis=1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return chosen


def drawn() -> list[RGB]:
    """Gradients, shapes, stripes and noise, in four colours each: uint8 ``[16, 48, 64, 3]``, the same on every call.

    They are neither square nor of a model's size, so that the decoder's resizing takes part.
    """
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH] / np.array([_HEIGHT, _WIDTH])[:, None, None]
    made: list[RGB] = []
    for number, colour in enumerate(_COLOURS):
        other = _COLOURS[number - 1]
        disc = (x - 0.3 - 0.1 * number) ** 2 + (y - 0.5) ** 2 < 0.08
        coarse = np.random.default_rng(number).random((6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        made.append(_mixed(x * y if number % 2 else (x + y) / 2, colour, other))
        made.append(_mixed(disc.astype(float), colour, other))
        made.append(_mixed(((x * 8 + y * 4 * number) % 1 < 0.5).astype(float), colour, other))
        made.append(np.asarray(coarse * np.array(colour) * 1.1, np.uint8))
    return made


def _mixed(share: NDArray[np.float64], colour: tuple[int, ...], other: tuple[int, ...]) -> RGB:
    share = share[..., None]
    return np.asarray(np.rint(share * np.array(colour) + (1 - share) * np.array(other)), np.uint8)


def _ppm(picture: RGB) -> bytes:
    """Exact, as a PNG is; and of all formats the one whose plugin a start waits for least."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PPM")
    return file.getvalue()
