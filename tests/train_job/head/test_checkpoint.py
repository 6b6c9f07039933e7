import io

import numpy as np
import pytest

from train_job.head.checkpoint import Checkpoint, from_npz, to_npz
from transferlite.storage.store import MemoryStore

ARRAYS = {"a.0": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array("é")}


def test_arrays_come_back_as_they_were() -> None:
    found = from_npz(to_npz(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1, -30])
def test_half_of_an_npz_is_said_to_be_damaged(cut: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_npz(to_npz(ARRAYS)[:cut])


def test_pickles_are_not_read() -> None:
    file = io.BytesIO()
    np.savez(file, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        from_npz(file.getvalue())


def test_a_state_is_found_by_the_job_that_saved_it_and_no_other() -> None:
    store = MemoryStore()
    mine = Checkpoint(store, "checkpoints/production.head.npz", "mine")
    assert mine.load() is None
    mine.save(dict(ARRAYS))
    found = mine.load()
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    assert Checkpoint(store, mine.key, "another's").load() is None
    mine.remove()
    mine.remove()
    assert mine.load() is None


def test_a_damaged_state_is_no_state() -> None:
    store = MemoryStore()
    checkpoint = Checkpoint(store, "state.npz", "mine")
    checkpoint.save(dict(ARRAYS))
    data = store.get("state.npz").data
    for damaged in (data[:50], b"", b"nonsense", data[: len(data) // 2]):
        store.put("state.npz", damaged)
        assert checkpoint.load() is None
