"""Input normalisation: ``(pixel - mean) / std``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transferlite.errors import InputError

if TYPE_CHECKING:  # saves import time on a cold start
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Normalisation:
    """Map pixels of 0 to 255 to a model's input range: ``(pixel - mean) / std``.

    Attributes:
        mean: one finite number, or three for R, G and B.
        std: likewise, each above 0.

    Raises:
        InputError: ``mean`` or ``std`` has another length, a ``mean`` is not finite, or a ``std`` is not finite and
            above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        is_valid = np.isfinite(self.mean).all() and all(0 < value < np.inf for value in self.std)
        if {len(self.mean), len(self.std)} - {1, 3} or not is_valid:
            raise InputError(
                f"invalid normalisation: mean {list(self.mean)}, std {list(self.std)}",
                hint="give 1 number or 3 numbers for each, all finite, std above 0",
            )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise an image ``[H, W, 3]``."""
        return np.asarray((image - np.array(self.mean)) / np.array(self.std), np.float32)
