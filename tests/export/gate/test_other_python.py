import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.gate.other_python import other_python, runtime_of
from tests.export.small import Exported, pictures
from transferlite.errors import BundleError, InputError
from transferlite.inference.interpreter import TFLiteClassifier, runtime_version


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Makes a shell script that stands for a Python."""

    def write(body: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


def test_another_python_names_its_runtime() -> None:
    assert runtime_of(sys.executable) == runtime_version()


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_another_python_answers_as_this_one(exported: Exported, variant: str) -> None:
    photos = np.stack(pictures(7))
    expected = TFLiteClassifier(exported.tflite[variant]).predict_batch(photos)
    with other_python(sys.executable, exported.tflite[variant]) as ask:
        np.testing.assert_array_equal(ask(photos), expected)
        np.testing.assert_array_equal(ask(photos[:1]), expected[:1])


def test_it_sees_nothing_of_this_python_but_the_runtime_package(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    probe = 'import os, sys; print(sorted(os.listdir()), "PYTHONPATH" in os.environ)'
    python = script(f"exec {sys.executable} -c '{probe}'")
    assert runtime_of(python) == "['transferlite'] False"


def test_what_is_no_python_with_a_runtime_is_told(script: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="/nowhere/python: cannot be run"):
        runtime_of("/nowhere/python")
    with pytest.raises(InputError, match=r"no Python with a TFLite runtime \(.*No module named 'numpy'"):
        runtime_of(script(f'exec {sys.executable} -S "$@"'))


def test_a_file_that_its_runtime_cannot_load_is_told_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(BundleError, match="the runtime cannot load it"), other_python(sys.executable, path):
        pass


def test_a_runtime_that_crashes_is_told(exported: Exported, script: Callable[[str], str]) -> None:
    crash = script("kill -SEGV $$")
    loading = pytest.raises(BundleError, match=r"ended as it loaded it \(status -11\)")
    with loading, other_python(crash, exported.tflite["float32"]):
        pass
    dies = script("echo '{\"classes\": 3}'; read line; kill -SEGV $$")
    running = pytest.raises(BundleError, match=r"ended while it ran it \(status -11\)")
    with other_python(dies, exported.tflite["float32"]) as ask, running:
        ask(np.stack(pictures(7)))


def test_nothing_is_left_running_or_lying_about(exported: Exported) -> None:
    with other_python(sys.executable, exported.tflite["float32"]) as ask:
        process, folder = ask._process, Path(f"/proc/{ask._process.pid}/cwd").resolve()
        assert folder.is_dir()
    assert process.returncode is not None
    assert not folder.exists()
