import io

import numpy as np
import pytest

from train_job.head.checkpoint import Checkpoint, from_npz, to_npz
from transferlite.storage.store import MemoryStore

ARRAYS = {"a.0": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array("é")}


def test_arrays_survive_the_round_trip() -> None:
    loaded = from_npz(to_npz(ARRAYS))
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1, -30])
def test_a_truncated_npz_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_npz(to_npz(ARRAYS)[:cut])


def test_pickles_are_refused() -> None:
    file = io.BytesIO()
    np.savez(file, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        from_npz(file.getvalue())


def test_a_state_is_loaded_only_with_its_fingerprint() -> None:
    store = MemoryStore()
    mine = Checkpoint(store, "checkpoints/production.head.npz", "mine")
    assert mine.load() is None
    mine.save(dict(ARRAYS))
    loaded = mine.load()
    assert loaded is not None
    assert loaded.keys() == ARRAYS.keys()
    assert Checkpoint(store, mine.key, "another's").load() is None
    mine.remove()
    mine.remove()
    assert mine.load() is None


def test_a_damaged_state_is_ignored() -> None:
    store = MemoryStore()
    checkpoint = Checkpoint(store, "state.npz", "mine")
    checkpoint.save(dict(ARRAYS))
    data = store.get("state.npz").data
    for damaged in (data[:50], b"", b"nonsense", data[: len(data) // 2]):
        store.put("state.npz", damaged)
        assert checkpoint.load() is None


def test_a_state_of_another_format_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(MemoryStore(), "state.npz", "mine")
    checkpoint.save({"head.0": np.zeros(2)})
    assert checkpoint.load() is not None
    monkeypatch.setattr("train_job.head.checkpoint._FORMAT", 99)
    assert checkpoint.load() is None
