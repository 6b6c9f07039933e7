"""Scale grey samples of more than 8 bits to 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transferlite.errors import PhotoError

if TYPE_CHECKING:  # saves import time on a cold start
    from collections.abc import Callable

    from numpy.typing import NDArray
    from PIL import Image

    from transferlite.images.tiff import SampleRange

_ROWS_PER_STRIP = 256
"""Rows searched at a time for the range of the samples."""
_MAX_16_BIT = 65535
_SHIFTS: dict[tuple[float, float], int] = {(0, 2**bits - 1): bits - 8 for bits in range(9, 17)}
"""Bits to drop from integers that use the whole range of their bits: the high byte remains."""
_RANGE_HINT = "save it with 8 or 16 bits, or declare the range (SMinSampleValue, SMaxSampleValue)"
_TOLERANCE = 0.1
"""Part of the range by which float samples may lie outside, as after sharpening; they are clipped."""
_MIN_BRIGHTEST = 32.0
"""Least maximum of float samples of 0 to 255: below it, they could be light intensities from 0 to any number."""


def has_deep_samples(image: Image.Image) -> bool:
    """Return whether an image has grey samples of 16 bits, 32 bits or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def sample_scale(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Return the function that scales the deep grey samples of a part of this image to uint8 ``[H, W]``.

    Raises:
        PhotoError: ``unsupported-format``; the range of the samples is not known.
    """
    declared = _declared_range(image)

    def samples(part: Image.Image) -> NDArray[Any]:
        array = np.asarray(part)
        return array.view(np.uint32) if declared.is_unsigned_32 else array

    low, high = declared.limits or _conventional_limits(image, samples)

    def scale(part: Image.Image) -> NDArray[np.uint8]:
        grey = _scale(samples(part), low, high).astype(np.uint8)
        return np.asarray(255 - grey) if declared.is_inverted else grey

    return scale


def _declared_range(image: Image.Image) -> SampleRange:
    """Return the range of the deep samples of an opened file."""
    from transferlite.images import tiff  # lazy: few photos have deep samples, and a cold start would wait

    if image.format == "TIFF":
        return tiff.sample_range(image)
    if image.mode == "F":
        return tiff.SampleRange(None)
    extrema: Any = image.getextrema()  # mode I holds 32 bits; file formats other than TIFF use 16 of them
    lowest, highest = extrema
    return tiff.SampleRange((0, _MAX_16_BIT) if lowest >= 0 and highest <= _MAX_16_BIT else None)


def _scale(samples: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    shift = _SHIFTS.get((low, high))
    if shift is not None and samples.dtype.kind != "f":
        return np.asarray(np.clip(samples, int(low), int(high)) >> shift)
    clipped = np.clip(np.nan_to_num(samples.astype(np.float64), nan=low, posinf=high, neginf=low), low, high)
    return np.asarray(np.rint((clipped - low) * (255 / (high - low))))


def _conventional_limits(image: Image.Image, samples: Callable[[Image.Image], NDArray[Any]]) -> tuple[float, float]:
    """Return 0 to 1 or 0 to 255 for float samples that are clearly in that range; raises PhotoError."""
    if image.mode != "F":
        raise PhotoError("unsupported-format", "32-bit or signed samples without a declared range", hint=_RANGE_HINT)
    width, height = image.size
    lowest, highest = np.inf, -np.inf
    for top in range(0, height, _ROWS_PER_STRIP):
        strip = samples(image.crop((0, top, width, min(top + _ROWS_PER_STRIP, height))))
        lowest = min(lowest, float(np.fmin.reduce(strip, axis=None, initial=np.inf)))
        highest = max(highest, float(np.fmax.reduce(strip, axis=None, initial=-np.inf)))
    for limit, least in ((1, -np.inf), (255, _MIN_BRIGHTEST)):
        margin = _TOLERANCE * limit
        if -margin <= lowest and least <= highest <= limit + margin:
            return 0, limit
    values = f"float samples from {lowest:g} to {highest:g}, neither 0 to 1 nor 0 to 255, without a declared range"
    raise PhotoError("unsupported-format", values, hint=_RANGE_HINT)
