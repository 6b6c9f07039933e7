"""Occlusion sensitivity: which parts of a photo support its label. Works on any TFLite file, without TensorFlow.

A window of the photo is blurred, the model predicts again, and the loss in the label's log-odds is added to the heat
map at the window's position. Only predictions are needed, no gradients, so the explained file is the file that serves:
float32 or int8, in Lambda or on an edge device.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2. Two choices differ
from the paper. The loss is in log-odds, because a confident probability stays at 1.000 whatever is covered. The window
is blurred instead of painted grey, because a grey square has edges of its own that the model reacts to.

Measured on 30 cats and dogs and on 30 flowers, none of them seen in training. Covering the hottest 15% of a photo
lowers the log-odds of its label by 4.3 and 5.4, the central 15% by 3.5 and 4.2, a random 15% by 0.7 and 2.1.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from transferlite.errors import InputError, TimeLimitError
from transferlite.images.decoder import RGB, decode, decoding, resize_to
from transferlite.images.input_spec import InputSpec
from transferlite.images.placement import map_to_photo, place, shares_of_photo
from transferlite.predict.predictor import Predictor

GRID = 9
"""Windows per side: 81 forward passes, plus one for the uncovered photo."""

WINDOW = 1 / 3
"""Side of a window as a share of the photo's side: three strides, so that windows overlap."""

BLUR = 0.1
"""Radius of the Gaussian blur that covers a window, as a share of the input's longer side."""

OVERLAY_SIDE = 1024
"""Longest side of an overlay, in pixels."""

LAYER_SIDE = 128
"""Side of a heat layer, in pixels: enough for 9 windows that each span a third of the photo."""

FAINT = 0.5
"""Smallest maximum of a heat map that is scaled to full strength: weaker maps stay faint, as they are no evidence."""

_SMALLEST = 1e-30

# Every 32nd colour of the map "inferno" of van der Walt and Smith (2015; CC0): even steps of lightness.
_COLOURS = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ],
    np.float32,
)


@dataclass(frozen=True)
class HeatMap:
    """How much each part of one photo supports ``label``.

    Attributes:
        model_id: version that made the predictions.
        label: the explained label.
        score: its probability for the whole photo.
        heat: float32 ``[h, w]`` at about the model's input size, over the whole upright photo: mean loss of the label's
            log-odds (natural logarithm) over the windows that cover a pixel. Negative where covering raises them, 0
            where a center crop hides the photo from the model.
        part: left, top, right and bottom of the window whose covering costs the label most, as shares of the upright
            photo; None if no window costs it anything.
        covered_score: the label's probability with that window covered; ``score`` if ``part`` is None.
    """

    model_id: str
    label: str
    score: float
    heat: NDArray[np.float32]
    part: tuple[float, float, float, float] | None
    covered_score: float


def explain(
    predictor: Predictor,
    photo: bytes | RGB,
    label: str | None = None,
    grid: int = GRID,
    seconds: float = math.inf,
) -> HeatMap:
    """Compute the heat map of one photo in ``grid * grid + 1`` forward passes.

    Args:
        predictor: the loaded model, of any variant. Probabilities of int8 have steps of 1/256: where the model is
            confident, covering may change nothing.
        photo: encoded bytes, or decoded uint8 RGB ``[H, W, 3]``.
        label: label to explain; the most probable label if None.
        grid: windows per side.
        seconds: time limit.

    Raises:
        PhotoError: the photo cannot be decoded.
        TimeLimitError: ``seconds`` are over.
        InputError: the model has no such label, the array is not uint8 ``[H, W, 3]``, or the grid is below 2.
    """
    if grid < 2:
        raise InputError(f"a grid of {grid} windows cannot locate anything", hint="use 2 or more")
    deadline = time.monotonic() + seconds
    spec = predictor.manifest.input
    image, photo_size = _model_input(photo, spec)
    placed = place(*photo_size, spec)
    probabilities = predictor.probabilities(image)
    index = int(np.argmax(probabilities)) if label is None else _index(predictor.manifest.labels, label)
    score = float(probabilities[index])
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR * max(image.shape))))
    log_odds = _log_odds(probabilities, index, predictor.resolution)
    losses, weights = np.zeros((2, *image.shape[:2]), np.float32)
    largest_loss, part, covered_score = 0.0, None, score
    for rows, columns, weight in _windows(image.shape[0], image.shape[1], grid):
        covered = image.copy()
        covered[rows, columns] = blurred[rows, columns]
        if time.monotonic() >= deadline:
            raise TimeLimitError(f"the heat map takes longer than {seconds:.3g} seconds")
        probabilities = predictor.probabilities(covered)
        loss = log_odds - _log_odds(probabilities, index, predictor.resolution)
        losses[rows, columns] += loss * weight
        weights[rows, columns] += weight
        if loss > largest_loss:
            largest_loss, part = loss, shares_of_photo(_shares(rows, columns, image.shape), placed, spec, photo_size)
            covered_score = float(probabilities[index])
    manifest = predictor.manifest
    heat = map_to_photo(losses / weights, placed, photo_size)
    return HeatMap(manifest.model_id, manifest.labels[index], score, heat, part, covered_score)


def _model_input(photo: bytes | RGB, spec: InputSpec) -> tuple[RGB, tuple[int, int]]:
    """The photo as the model's input, and the size (width, height) of the upright photo that it was made of."""
    if isinstance(photo, bytes):
        with decoding(photo, spec) as decoded:
            return decoded.pixels, decoded.upright_size
    return resize_to(photo, spec), (photo.shape[1], photo.shape[0])


def overlay(photo: bytes | RGB, heat_map: HeatMap, side: int = OVERLAY_SIDE) -> Image.Image:
    """Draw the heat over the whole upright photo, scaled down to at most ``side`` pixels a side.

    The hotter a pixel, the more the heat hides the photo. Negative heat is not drawn; a photo without positive heat
    keeps its own colours.

    Raises:
        PhotoError: the photo cannot be decoded.
    """
    image = Image.fromarray(decode(photo) if isinstance(photo, bytes) else photo)
    image.thumbnail((side, side))
    colours, opacity = _paint(heat_map, image.size)
    return Image.fromarray(np.rint(np.asarray(image) * (1 - opacity) + colours * opacity).astype(np.uint8))


def heat_layer(heat_map: HeatMap, side: int = LAYER_SIDE) -> Image.Image:
    """Draw the heat alone, RGBA ``side`` x ``side`` pixels: stretched over the upright photo it gives the overlay."""
    colours, opacity = _paint(heat_map, (side, side))
    return Image.fromarray(np.rint(np.concatenate([colours, 255 * opacity], -1)).astype(np.uint8))


def _paint(heat_map: HeatMap, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours ``[h, w, 3]`` and opacity ``[h, w, 1]`` of the heat at ``size`` (width, height)."""
    heat = np.asarray(Image.fromarray(heat_map.heat).resize(size, Image.Resampling.BICUBIC))
    strength = np.clip(heat / max(float(heat_map.heat.max()), FAINT), 0, 1)  # [h, w]
    steps = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(strength, steps, channel) for channel in _COLOURS.T], -1).astype(np.float32)
    return colours, np.asarray(0.75 * strength[..., None], np.float32)


def _index(labels: tuple[str, ...], label: str) -> int:
    if label not in labels:
        known = ", ".join(labels[:20]) + (f", … {len(labels)} in all" if len(labels) > 20 else "")
        raise InputError(f"the model has no label {label!r}", hint=f"its labels: {known}")
    return labels.index(label)


def _log_odds(probabilities: NDArray[np.float32], index: int, resolution: float) -> float:
    """Log-odds of one label against all others.

    The others are summed: ``1 - p`` would round to 0 for a confident label.
    """
    floor = max(resolution / 2, _SMALLEST)
    others = float(np.delete(probabilities, index).sum())
    return float(np.log(max(float(probabilities[index]), floor)) - np.log(max(others, floor)))


def _windows(height: int, width: int, grid: int) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """Row slice, column slice and weights of each window, centred on the cells of a ``grid`` x ``grid`` raster.

    Together the windows cover every pixel. Weights have the window's shape and fall towards its edges, so that the heat
    map has no steps.
    """
    pairs = ((vertical, horizontal) for vertical in _spans(height, grid) for horizontal in _spans(width, grid))
    return [(rows, columns, np.outer(down, across)) for (rows, down), (columns, across) in pairs]


def _spans(length: int, grid: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """The windows along one side of ``length`` pixels, with weights that fall linearly from the centre."""
    half = max(WINDOW, 1 / grid) * length / 2
    spans = []
    for centre in (np.arange(grid) + 0.5) * length / grid:
        first, last = max(0, int(np.floor(centre - half))), min(length, int(np.ceil(centre + half)))
        distances = np.abs(np.arange(first, last) + 0.5 - centre)
        spans.append((slice(first, last), np.asarray(1 - distances / (half + 1), np.float32)))
    return spans


def _shares(rows: slice, columns: slice, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    height, width = shape[:2]
    return columns.start / width, rows.start / height, columns.stop / width, rows.stop / height
