"""What is done to pixels for a model that takes something else than the pixels themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transferlite.errors import InputError

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
