"""What a model and the photos that it gets agree on. Apart from the decoder, for it is read before Pillow is needed."""

from dataclasses import dataclass

from transferlite.errors import InputError

DECODER_VERSION = 2
"""Raised with every change that can alter a decoded pixel: bundles and features record it.

2: large JPEGs are scaled by libjpeg as they are decoded, within ``imaging.DRAFT_DIFFERENCE``.
"""

LIKE_DECODERS = frozenset({1, 2})
"""Versions that see so much alike that a model trained with one may look through another."""

MAX_BYTES = 64 * 2**20
"""Of an encoded photo."""

READ_BYTES = MAX_BYTES + 1
"""As much of a photo as is worth reading: with one byte more than the limit, ``imaging.decode`` refuses it."""


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: uint8 RGB of ``height`` x ``width`` pixels, the whole photo resized with ``resize``."""

    height: int
    width: int
    resize: str = "bicubic"

    def __post_init__(self) -> None:
        if not (8 <= self.height <= 4096 and 8 <= self.width <= 4096):
            raise InputError(f"an input of {self.height}x{self.width} pixels is outside 8 to 4096")
        if self.resize != "bicubic":
            raise InputError(f"unknown resize {self.resize!r}", hint="this release knows bicubic: update it")
