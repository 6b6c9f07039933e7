"""Arrays of sha256s: 32 bytes each, sorted and searched by bisection, for millions of photos."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""Binary sha256s as ``S32`` ``[N]``, which NumPy compares bytewise."""

NO_DIGESTS: Digests = np.zeros(0, "S32")


def digests_from_hex(hashes: "Sequence[str] | Digests") -> Digests:
    """Convert hexadecimal sha256s to an array ``S32`` ``[N]``; returns such an array as it is.

    Raises ValueError if one is not 64 digits long.
    """
    if isinstance(hashes, np.ndarray):
        return hashes
    if any(len(sha256) != 64 for sha256 in hashes):
        raise ValueError("a sha256 has 64 hexadecimal digits")
    return np.frombuffer(bytes.fromhex("".join(hashes)), "S32")


def indices_in(known: Digests, wanted: Digests) -> NDArray[np.int64]:
    """Return the index in ``known`` ``[M]``, which is sorted, of each of ``wanted`` ``[N]``; -1 if it is missing."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    indices = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[indices] == wanted, indices, -1)


def digests_to_hex(digests: Digests) -> list[str]:
    """Invert :func:`digests_from_hex`."""
    text = np.ascontiguousarray(digests).tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]
