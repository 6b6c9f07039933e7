from pathlib import Path

import numpy as np
import pytest

from train_job.head.row_sets import RowSet, ShuffledOrder


@pytest.mark.parametrize("window", [None, 200, 1000])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_each_pass_has_every_row_once(count: int, window: int | None) -> None:
    order = ShuffledOrder(count, 3, window)
    for number in range(3):
        assert sorted(order.row_indices(number * count, (number + 1) * count)) == list(range(count))


@pytest.mark.parametrize("window", [None, 128])
def test_a_range_of_the_sequence_does_not_depend_on_where_reading_starts(window: int | None) -> None:
    order = ShuffledOrder(300, 1, window)
    whole = order.row_indices(0, 1500)
    for start, stop in [(0, 1), (299, 301), (250, 1100), (1499, 1500)]:
        np.testing.assert_array_equal(order.row_indices(start, stop), whole[start:stop])


def test_passes_and_seeds_differ() -> None:
    first = ShuffledOrder(100, 1).row_indices(0, 100)
    assert (first != ShuffledOrder(100, 1).row_indices(100, 200)).any()
    assert (first != ShuffledOrder(100, 2).row_indices(0, 100)).any()


def test_a_window_reads_few_runs_of_the_table() -> None:
    indices = np.sort(ShuffledOrder(100_000, 0, 6400).row_indices(0, 6400))
    assert (np.diff(indices) > 1).sum() <= 6400 // 64 + 1
    assert indices.max() - indices.min() > 50_000


def test_rows_are_taken_from_a_mapped_file_as_from_an_array(tmp_path: Path) -> None:
    table = np.arange(40, dtype=np.float16).reshape(10, 4)
    np.save(tmp_path / "t.npy", table)
    mapped = np.load(tmp_path / "t.npy", mmap_mode="r")
    ids, labels = np.array([7, 1, 1, 9]), np.zeros(4, np.int32)
    for source in (table, mapped):
        rows = RowSet(source, ids, labels)
        np.testing.assert_array_equal(rows.take(slice(1, 4)), table[[1, 1, 9]])
        np.testing.assert_array_equal(rows.take(np.array([3, 0])), table[[9, 7]])
