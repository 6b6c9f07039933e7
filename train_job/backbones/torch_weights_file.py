"""Read the tensors of a legacy PyTorch checkpoint (``torch.save`` before 1.6) without PyTorch.

The file is five pickles (magic number, protocol, system info, state dict, storage keys), followed by one raw block per
storage: its element count as int64, then the elements. Source: ``torch/serialization.py``, ``_legacy_load``.
A pickle can name any callable, so this unpickler resolves only the four names that a state dict needs.
"""

import collections
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transferlite.errors import InputError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_state_dict(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the checkpoint's tensors by name, each a read-only view in PyTorch's shape, not necessarily contiguous.

    Raises:
        InputError: the file is not a legacy PyTorch state dict, is truncated, or names anything but tensors.
    """
    try:
        return _read(io.BytesIO(path.read_bytes()))
    except InputError as error:
        raise InputError(str(error), where=str(path)) from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"not a legacy PyTorch state dict ({error})", where=str(path)) from error


@dataclass(frozen=True)
class _Storage:
    dtype: np.dtype[Any]
    key: str


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; strides and offset count elements, as PyTorch writes them."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view_of(self, block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """View the storage's elements ``block`` ``[count]`` as this tensor, without a copy."""
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        if self.offset < 0 or min(self.strides, default=0) < 0 or end > block.size:
            raise InputError(f"tensor of shape {self.shape} reaches outside its storage")
        strides = tuple(step * block.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(block[self.offset :], self.shape, strides, writeable=False)


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: object) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
}


class _StateDictUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise InputError(f"refuses to load {module}.{name} from a pickle") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _count, view = pid
        if kind != "storage" or view is not None:
            raise InputError(f"unknown object {kind!r} in the checkpoint")
        return _Storage(dtype, key)


def _read(file: io.BytesIO) -> dict[str, np.ndarray[Any, Any]]:
    magic, protocol, _system, state, keys = (_StateDictUnpickler(file).load() for _ in range(5))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise InputError("not a legacy PyTorch checkpoint")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    blocks = {key: _read_block(file, dtypes[key]) for key in keys}
    return {name: tensor.view_of(blocks[tensor.storage.key]) for name, tensor in state.items()}


def _read_block(file: io.BytesIO, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    raw = file.read(count * dtype.itemsize)
    if count < 0 or len(raw) != count * dtype.itemsize:
        raise InputError("the checkpoint is truncated")
    return np.frombuffer(raw, dtype)
