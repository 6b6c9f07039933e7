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

    Samples = Callable[[slice], NDArray[Any]]

_ROWS_PER_STRIP = 256
"""Rows converted at a time: an array of wide samples is several times larger than the 8-bit image."""
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


def declared_range(image: Image.Image) -> SampleRange:
    """Return the range of an image's deep samples; call it before a transposition, which drops the file's tags."""
    from transferlite.images import tiff  # lazy: few photos have deep samples, and a cold start would wait

    if image.format == "TIFF":
        return tiff.sample_range(image)
    if image.mode == "F":
        return tiff.SampleRange(None)
    extrema: Any = image.getextrema()  # mode I holds 32 bits; file formats other than TIFF use 16 of them
    lowest, highest = extrema
    return tiff.SampleRange((0, _MAX_16_BIT) if lowest >= 0 and highest <= _MAX_16_BIT else None)


def to_uint8(image: Image.Image, declared: SampleRange) -> NDArray[np.uint8]:
    """Scale deep grey samples to uint8 ``[H, W]``, strip by strip to save memory.

    Raises:
        PhotoError: ``unsupported-format``; the range of the samples is not known.
    """
    width, height = image.size
    strips = [slice(top, min(top + _ROWS_PER_STRIP, height)) for top in range(0, height, _ROWS_PER_STRIP)]

    def samples(rows: slice) -> NDArray[Any]:
        strip = np.asarray(image.crop((0, rows.start, width, rows.stop)))
        return strip.view(np.uint32) if declared.is_unsigned_32 else strip

    low, high = declared.limits or _conventional_limits(image.mode, samples, strips)
    grey = np.empty((height, width), np.uint8)
    for rows in strips:
        grey[rows] = _scale(samples(rows), low, high)
    return np.asarray(255 - grey) if declared.is_inverted else grey


def _scale(samples: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    shift = _SHIFTS.get((low, high))
    if shift is not None and samples.dtype.kind != "f":
        return np.asarray(np.clip(samples, int(low), int(high)) >> shift)
    clipped = np.clip(np.nan_to_num(samples.astype(np.float64), nan=low, posinf=high, neginf=low), low, high)
    return np.asarray(np.rint((clipped - low) * (255 / (high - low))))


def _conventional_limits(mode: str, samples: Samples, strips: list[slice]) -> tuple[float, float]:
    """Return 0 to 1 or 0 to 255 for float samples that are clearly in that range; raises PhotoError."""
    if mode != "F":
        raise PhotoError("unsupported-format", "32-bit or signed samples without a declared range", hint=_RANGE_HINT)
    lowest, highest = np.inf, -np.inf
    for rows in strips:
        lowest = min(lowest, float(np.fmin.reduce(samples(rows), axis=None, initial=np.inf)))
        highest = max(highest, float(np.fmax.reduce(samples(rows), axis=None, initial=-np.inf)))
    for limit, least in ((1, -np.inf), (255, _MIN_BRIGHTEST)):
        margin = _TOLERANCE * limit
        if -margin <= lowest and least <= highest <= limit + margin:
            return 0, limit
    values = f"float samples from {lowest:g} to {highest:g}, neither 0 to 1 nor 0 to 255, without a declared range"
    raise PhotoError("unsupported-format", values, hint=_RANGE_HINT)
