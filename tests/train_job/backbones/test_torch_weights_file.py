import collections
import os
import pickle
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train_job.backbones.torch_weights_file import read_state_dict
from transferlite.errors import InputError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


@dataclass
class Storage:
    key: str
    values: Any

    @property
    def kind(self) -> str:
        return {"float32": "FloatStorage", "int64": "LongStorage", "float64": "DoubleStorage"}[self.values.dtype.name]


@dataclass
class Tensor:
    """A tensor that pickles as PyTorch's do."""

    storage: Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, self.offset, self.shape, self.strides, False, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        return "storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", len(obj.values), None


def _rebuild_tensor_v2() -> None:
    """The pickle names this function; nothing calls it."""


def _modules() -> dict[str, types.ModuleType]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "DoubleStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    _rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    return {"torch": torch, "torch._utils": utils}


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes a legacy checkpoint of tensors by name (or of any other object) and returns its path."""

    def write(state: Any, magic: int = MAGIC) -> Path:
        tensors = state.values() if isinstance(state, Mapping) else ()
        storages = {tensor.storage.key: tensor.storage for tensor in tensors if isinstance(tensor, Tensor)}
        with monkeypatch.context() as patch, (tmp_path / "model.pth").open("wb") as file:
            for name, module in _modules().items():
                patch.setitem(sys.modules, name, module)
            for part in (magic, PROTOCOL, SYSTEM, state, sorted(storages)):
                Pickler(file, protocol=2).dump(part)
            for _, storage in sorted(storages.items()):
                file.write(len(storage.values).to_bytes(8, "little"))
                file.write(storage.values.tobytes())
        return tmp_path / "model.pth"

    return write


def floats(count: int) -> Storage:
    return Storage("0", np.arange(count, dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        pytest.param((2, 3), (3, 1), 0, id="contiguous"),
        pytest.param((3, 2), (1, 3), 0, id="transposed"),
        pytest.param((2, 2), (6, 2), 1, id="every other, from the second"),
        pytest.param((3, 2, 2, 2), (1, 12, 6, 3), 0, id="four dimensions, the first innermost"),
        pytest.param((4,), (0,), 5, id="one element four times"),
        pytest.param((), (), 7, id="scalar"),
        pytest.param((0, 3), (3, 1), 0, id="nothing"),
    ],
)
def test_a_tensor_is_read_by_its_strides_and_offset(
    checkpoint: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    values = np.arange(24, dtype=np.float32)
    read = read_state_dict(checkpoint({"weight": Tensor(Storage("0", values), shape, strides, offset)}))["weight"]
    expected = np.empty(shape, np.float32)
    for index in np.ndindex(*shape):
        expected[index] = values[offset + sum(i * stride for i, stride in zip(index, strides, strict=True))]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)


def test_tensors_of_several_kinds_and_storages_keep_their_names_and_order(checkpoint: Any) -> None:
    state = collections.OrderedDict(
        z=Tensor(Storage("11", np.array([2**40, -1])), (2,), (1,)),
        a=Tensor(Storage("7", np.array([0.5, 0.25, 0.125], np.float32)), (3,), (1,)),
    )
    read = read_state_dict(checkpoint(state))
    assert list(read) == ["z", "a"]
    assert read["z"].dtype == np.int64
    assert [array.tolist() for array in read.values()] == [[2**40, -1], [0.5, 0.25, 0.125]]


def test_tensors_may_share_a_storage(checkpoint: Any) -> None:
    shared = floats(6)
    read = read_state_dict(checkpoint({"a": Tensor(shared, (2,), (1,)), "b": Tensor(shared, (2,), (1,), 4)}))
    assert [array.tolist() for array in read.values()] == [[0, 1], [4, 5]]


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((7,), (1,), 0), ((2,), (1,), 5), ((2, 2), (5, 1), 0), ((1,), (1,), 6), ((2,), (-1,), 3), ((2,), (1,), -1)],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(
    checkpoint: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    with pytest.raises(InputError, match=r"model\.pth.*outside its storage"):
        read_state_dict(checkpoint({"weight": Tensor(floats(6), shape, strides, offset)}))


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def test_a_file_that_names_a_function_is_refused_without_running_it(checkpoint: Any, tmp_path: Path) -> None:
    path = checkpoint({"weight": Call(os.system, f"touch {tmp_path}/ran")})
    with pytest.raises(InputError, match=r"model\.pth.*refuses to load (posix|nt)\.system"):
        read_state_dict(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", [eval, getattr, __import__, np.load])
def test_builtins_and_libraries_are_refused_too(checkpoint: Any, function: Any) -> None:
    with pytest.raises(InputError, match="refuses to load"):
        read_state_dict(checkpoint({"weight": Call(function, "1")}))


def test_another_kind_of_storage_is_refused_by_name(checkpoint: Any) -> None:
    with pytest.raises(InputError, match=r"torch\.DoubleStorage"):
        read_state_dict(checkpoint({"weight": Tensor(Storage("0", np.zeros(2)), (2,), (1,))}))


def test_a_file_truncated_anywhere_is_refused(checkpoint: Any) -> None:
    path = checkpoint({"weight": Tensor(floats(6), (6,), (1,))})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"model\.pth"):
            read_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a text file\n", id="text"),
        pytest.param(b"PK\x03\x04" + bytes(60), id="zip, as PyTorch writes today"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(60), id="hdf5"),
        pytest.param(pickle.dumps({"weight": 1}), id="one pickle"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pth"):
        read_state_dict(tmp_path / "model.pth")


def test_another_magic_number_is_refused(checkpoint: Any) -> None:
    with pytest.raises(InputError, match="legacy PyTorch"):
        read_state_dict(checkpoint({}, magic=MAGIC + 1))


@pytest.mark.parametrize("state", [[1, 2], None, {"epoch": 3}, {"model": {}}], ids=repr)
def test_pickles_of_anything_but_tensors_are_refused(checkpoint: Any, state: Any) -> None:
    with pytest.raises(InputError, match=r"model\.pth"):
        read_state_dict(checkpoint(state))
