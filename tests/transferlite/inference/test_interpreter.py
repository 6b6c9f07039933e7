import os
import sys

import pytest

from transferlite.errors import MissingExtraError
from transferlite.inference.interpreter import interpreter_class
from transferlite.inference.thread_count import usable_cores


@pytest.mark.parametrize(
    ("memory", "cores"),
    [("128", 1), ("512", 1), ("1769", 1), ("2048", 1), ("3008", 2), ("3538", 2), ("5307", 3), ("10240", 6)],
)
def test_a_lambda_function_gets_threads_in_proportion_to_its_memory(
    memory: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_cores({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}) == cores


@pytest.mark.parametrize(("available", "cores"), [(1, 1), (4, 4), (64, 8)])
def test_elsewhere_the_process_gets_its_usable_cores_up_to_eight(
    available: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(available)))
    assert usable_cores({}) == cores
    assert usable_cores({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "10240"}) == min(cores, 6)


@pytest.mark.parametrize(("python", "names_python"), [((3, 11, 7), False), ((3, 12, 0), True), ((3, 13, 1), True)])
def test_a_missing_runtime_error_names_the_python_that_edge_legacy_needs(
    python: tuple[int, int, int], names_python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "version_info", python)
    with pytest.raises(MissingExtraError, match=r"install the extra: pip install 'transferlite\[edge\]'") as raised:
        interpreter_class()
    assert ("tflite-runtime has wheels for Python 3.9 to 3.11 only" in str(raised.value)) is names_python
