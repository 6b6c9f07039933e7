"""Checkpoints: the state of an interrupted fit as one object in the store, from which the next attempt resumes."""

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
_FORMAT = 2
"""Raise it when the saved fields change: a checkpoint of another format is ignored, and the fit starts again."""


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise named arrays as an ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_npz(data: bytes) -> Arrays:
    """Parse the arrays of :func:`to_npz`. Raises ValueError if the data is damaged or not an ``.npz`` file."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's place in the store, and the fingerprint of the job and data that it must match."""

    store: Store
    key: str
    fingerprint: str

    @property
    def _stamp(self) -> str:
        return f"{_FORMAT} {self.fingerprint}"

    def exists(self) -> bool:
        """Whether there is a state, of this or another job."""
        try:
            self.store.head(self.key)
        except NotFoundError:
            return False
        return True

    def load(self) -> Arrays | None:
        """Read the state; None if it is missing, damaged, of another format or has another fingerprint."""
        try:
            arrays = from_npz(self.store.get(self.key).data)
        except (NotFoundError, ValueError):
            return None
        return arrays if str(arrays.pop(_FINGERPRINT, "")) == self._stamp else None

    def save(self, arrays: Arrays) -> None:
        """Write the state, replacing an earlier one."""
        self.store.put(self.key, to_npz({**arrays, _FINGERPRINT: np.array(self._stamp)}))

    def remove(self) -> None:
        """Delete the state. Without permission to delete it stays, and the next job overwrites it."""
        with suppress(AccessDeniedError):
            self.store.delete(self.key)
