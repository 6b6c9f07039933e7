"""Perceptual hash of a photo, by which near-duplicates are found."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, FREQUENCIES, CELLS = 32, 128, 4

SIGNATURE_BYTES = FREQUENCIES // 8 + 3 * CELLS * CELLS


_MIN_CONTRAST = 1.0  # in levels of 0 to 255; below it, rounding errors decide the signs


_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


_ROWS = 16  # DCT rows in each direction: the 128 lowest frequencies reach the 15th


def _dct_matrix() -> NDArray[np.float32]:
    """Return the first rows of the orthonormal DCT-II, ``[_ROWS, SIDE]``."""
    angles = np.pi / (2 * SIDE) * np.arange(_ROWS)[:, None] * (2 * np.arange(SIDE)[None] + 1)
    rows = np.cos(angles) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _lowest_frequencies() -> NDArray[np.int64]:
    """Return the indices of the lowest frequencies but the mean in a flat ``[_ROWS, _ROWS]``, lowest first."""
    pairs = sorted((i + j, i, j) for i in range(_ROWS) for j in range(_ROWS) if i + j)
    return np.array([i * _ROWS + j for _, i, j in pairs[:FREQUENCIES]])


_DCT, _LOWEST = _dct_matrix(), _lowest_frequencies()
_MEAN_POOL = np.kron(np.eye(CELLS), np.ones(SIDE // CELLS) * CELLS / SIDE).astype(np.float32)  # [CELLS, SIDE]


def perceptual_signature(image: Image.Image) -> bytes:
    """Return an RGB image's perceptual signature, :data:`SIGNATURE_BYTES` long: 16 bytes of signs, 48 of colours.

    The signs are those of the 128 lowest DCT frequencies of the luminance, as in a perceptual hash
    (https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html). They survive a change of size,
    quality or brightness. ImageHash's phash has 64 and takes longer than decoding the photo. The colours are the mean
    RGB values of a 4 x 4 grid; they separate images of the same shapes. Empty for an image without contrast.
    """
    small = np.asarray(_downscale(image), np.float32)  # [SIDE, SIDE, 3]
    coefficients = (_DCT @ (small @ _LUMINANCE) @ _DCT.T).reshape(-1)[_LOWEST]
    if np.sqrt(np.sum(coefficients[:64] ** 2)) / SIDE < _MIN_CONTRAST:
        return b""
    colours = _MEAN_POOL @ np.moveaxis(small, 2, 0) @ _MEAN_POOL.T  # [3, CELLS, CELLS]
    return np.packbits(coefficients > 0).tobytes() + np.rint(colours).astype(np.uint8).tobytes()


def _downscale(image: Image.Image) -> Image.Image:
    """Downscale to ``SIDE`` x ``SIDE`` by averaging; by a whole factor first, which is faster."""
    factors = (max(1, image.width // SIDE), max(1, image.height // SIDE))
    image = image.reduce(factors) if factors != (1, 1) else image
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)
