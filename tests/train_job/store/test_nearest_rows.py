from typing import Any

import numpy as np
import pytest

from train_job.store.nearest_rows import nearest_rows


def random_rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 40)).astype(np.float16)


def all_similarities(queries: Any, rows: Any) -> Any:
    first, second = (values.astype(np.float64) for values in (queries, rows))
    return (first @ second.T) / np.linalg.norm(first, axis=1)[:, None] / np.linalg.norm(second, axis=1)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_rows_found_are_those_that_a_full_comparison_finds(size: int) -> None:
    queries, rows = random_rows(3, 1), random_rows(100)
    found = nearest_rows(queries, (rows[start : start + size] for start in range(0, 100, size)), 5)
    expected = all_similarities(queries, rows)
    for neighbours, similarities in zip(found, expected, strict=True):
        order = np.argsort(-similarities)[:5]
        assert [position for position, _ in neighbours] == order.tolist()
        np.testing.assert_allclose([similarity for _, similarity in neighbours], similarities[order], atol=1e-3)


def test_rows_that_may_not_be_found_give_way_to_the_next_however_many_they_are() -> None:
    queries, rows = random_rows(1, 1), random_rows(500)
    order = np.argsort(-all_similarities(queries, rows)[0])
    allowed = set(order[450:].tolist())
    found = nearest_rows(queries, [rows[:300], rows[300:]], 4, allowed.__contains__)
    assert [position for position, _ in found[0]] == order[450:454].tolist()


def test_fewer_rows_than_asked_for_are_all_found() -> None:
    found = nearest_rows(random_rows(1), [random_rows(2)], 5)
    assert sorted(position for position, _ in found[0]) == [0, 1]
    assert nearest_rows(random_rows(2), [], 5) == [[], []]
