"""sha256s by the million: 32 bytes each in a numpy array, sorted, and found by bisection."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""Binary sha256s as ``S32`` ``[N]``; numpy compares them bytewise."""

NONE: Digests = np.zeros(0, "S32")


def as_digests(hashes: Sequence[str]) -> Digests:
    """Hexadecimal sha256s as an array ``S32`` ``[N]``. Raises ValueError where one is not 64 digits long."""
    if any(len(one) != 64 for one in hashes):
        raise ValueError("a sha256 has 64 hexadecimal digits")
    return np.frombuffer(bytes.fromhex("".join(hashes)), "S32")


def places_in(there: Digests, wanted: Digests) -> NDArray[np.int64]:
    """Where each of ``wanted`` ``[N]`` is in ``there`` ``[M]``, which is sorted; -1 where it is not."""
    if not len(there):
        return np.full(len(wanted), -1, np.int64)
    places = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
    return np.where(there[places] == wanted, places, -1)
