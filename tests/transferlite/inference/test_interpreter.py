import os

import pytest

from transferlite.inference.interpreter import usable_cores


@pytest.mark.parametrize(
    ("memory", "cores"),
    [("128", 1), ("512", 1), ("1769", 1), ("2048", 1), ("3008", 2), ("3538", 2), ("5307", 3), ("10240", 6)],
)
def test_a_function_has_the_threads_that_its_memory_pays_for(
    memory: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_cores({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}) == cores


@pytest.mark.parametrize(("seen", "cores"), [(1, 1), (4, 4), (64, 8)])
def test_elsewhere_it_is_the_cores_that_the_process_may_use(
    seen: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(seen)))
    assert usable_cores({}) == cores
    assert usable_cores({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "10240"}) == min(cores, 6)
