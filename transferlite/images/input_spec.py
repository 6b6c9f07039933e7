"""Input size and decoder version that a model and its photos must agree on.

Separate from the decoder: the manifest needs it before anything needs Pillow.
"""

from dataclasses import dataclass

from transferlite.errors import InputError

DECODER_VERSION = 3
"""Increased with every change that can alter a decoded pixel; bundles and feature stores record it.

Version 2: libjpeg scales large JPEGs while decoding, within ``transferlite.images.decoder.DRAFT_DIFFERENCE``.
Version 3: TIFF samples have the range that the file declares, are inverted if zero is white, and come from the first
page of full size; HEIC and JPEG XL are decoded. Other photos have the same pixels as in version 2.
"""

COMPATIBLE_DECODERS = frozenset({1, 2, 3})
"""Decoder versions whose models this release may run: usual photos differ too little to matter."""

MAX_BYTES = 64 * 2**20
"""Largest encoded photo."""

READ_BYTES = MAX_BYTES + 1
"""Bytes to read of a photo: one more than the limit, so that the decoder rejects a larger photo."""


SQUASH, LETTERBOX, CENTER_CROP = "squash", "letterbox", "center-crop"
RESIZE_MODES = (SQUASH, LETTERBOX, CENTER_CROP)
"""How a photo of another shape becomes the model's input: stretched, padded with grey, or without its outer parts."""


@dataclass(frozen=True)
class InputSpec:
    """A model's input: uint8 RGB of ``height`` x ``width`` pixels, made from the photo by a bicubic filter.

    ``resize`` is one of :data:`RESIZE_MODES`.
    """

    height: int
    width: int
    resize: str = SQUASH

    def __post_init__(self) -> None:
        if not (8 <= self.height <= 4096 and 8 <= self.width <= 4096):
            raise InputError(f"an input of {self.height}x{self.width} pixels is outside 8 to 4096")
        if self.resize not in RESIZE_MODES:
            known = ", ".join(RESIZE_MODES)
            raise InputError(f"unknown resize mode {self.resize!r}", hint=f"this release knows {known}; upgrade it")
