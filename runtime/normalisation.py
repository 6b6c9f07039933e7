"""From pixels to what an input of a TFLite file takes, where that is something else than the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import BundleError, InputError

if TYPE_CHECKING:  # a start need not wait for it
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Normalisation:
    """What a model wants done to pixels of 0 to 255: ``(pixel - mean) / std``; one number each, or one a channel.

    Raises:
        InputError: they are neither one nor three numbers, or a ``std`` is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if {len(self.mean), len(self.std)} - {1, 3} or not all(0 < value < np.inf for value in self.std):
            raise InputError(
                f"the mean {list(self.mean)} and std {list(self.std)} are no normalisation of RGB",
                hint="give one number or three each, std above 0",
            )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels ``[H, W, 3]`` as the model was trained on them."""
        return np.asarray((image - np.array(self.mean)) / np.array(self.std), np.float32)


def preparation(
    details: Any, normalisation: Normalisation | None, where: str
) -> Callable[[NDArray[np.uint8]], NDArray[Any]] | None:
    """What makes of pixels ``[H, W, 3]`` an input of these ``details``; None where it takes them as they are.

    A float input takes normalised pixels. An integer one takes them as they are (int8: less 128), or, where there is a
    normalisation that changes them, normalised and quantised.
    Source: https://www.tensorflow.org/lite/models/convert/metadata, "Normalization and quantization parameters"

    Raises:
        BundleError: it is of another type.
        InputError: it is float, and there is no normalisation.
    """
    kind = np.dtype(details["dtype"])
    if kind == np.float32:
        if normalisation is None:
            raise InputError(
                "takes float pixels, and neither it nor you say how they are normalised",
                where=where,
                hint="give --mean and --std: 0 and 255 for 0 to 1, 127.5 and 127.5 for -1 to 1, 0 and 1 for 0 to 255",
            )
        return normalisation
    if kind not in (np.uint8, np.int8):
        raise BundleError(f"takes {kind} pixels", where=where, hint="float32, uint8 and int8 are known")
    scale, zero = details["quantization"]
    limits = np.iinfo(kind)
    if scale and normalisation is not None and {*normalisation.mean, *normalisation.std} != {0.0, 1.0}:

        def quantised(image: NDArray[np.uint8]) -> NDArray[Any]:
            steps = np.rint(normalisation(image) / scale) + zero
            return np.asarray(np.clip(steps, limits.min, limits.max), kind)

        return quantised
    if kind == np.int8:
        return lambda image: (image ^ 0x80).view(np.int8)  # 0 to 255 as -128 to 127
    return None
