"""The state of a training that was interrupted, as one object: the next attempt goes on from there."""

import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferlite.errors import AccessDeniedError, NotFoundError
from transferlite.storage.store import Store

Arrays = dict[str, NDArray[Any]]

_FINGERPRINT = "fingerprint"


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as the bytes of an ``.npz``."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_npz(data: bytes) -> Arrays:
    """The inverse of :func:`to_npz`. Raises ValueError for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Checkpoint:
    """Where the state is kept, and what it has to be of: the same job on the same data."""

    store: Store
    key: str
    fingerprint: str

    def load(self) -> Arrays | None:
        """The state, or None if there is none, it is damaged, or it is another job's."""
        try:
            arrays = from_npz(self.store.get(self.key).data)
        except (NotFoundError, ValueError):
            return None
        return arrays if str(arrays.pop(_FINGERPRINT, "")) == self.fingerprint else None

    def save(self, arrays: Arrays) -> None:
        """Replace the state."""
        self.store.put(self.key, to_npz({**arrays, _FINGERPRINT: np.array(self.fingerprint)}))

    def remove(self) -> None:
        """The job is done. Where deleting is not allowed, the next job's state will take its place."""
        with suppress(AccessDeniedError):
            self.store.delete(self.key)
