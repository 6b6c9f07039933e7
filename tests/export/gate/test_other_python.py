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
    """Function that writes a shell script to use in place of a Python executable."""

    def write(body: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


def test_runtime_of_names_the_runtime_and_its_version() -> None:
    assert runtime_of(sys.executable) == runtime_version()


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_another_python_predicts_the_same(exported: Exported, variant: str) -> None:
    images = np.stack(pictures(7))
    expected = TFLiteClassifier(exported.tflite[variant]).predict_batch(images)
    with other_python(sys.executable, exported.tflite[variant]) as predict:
        np.testing.assert_array_equal(predict(images), expected)
        np.testing.assert_array_equal(predict(images[:1]), expected[:1])


def test_another_python_sees_only_the_package_transferlite(
    script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    probe = 'import os, sys; print(sorted(os.listdir()), "PYTHONPATH" in os.environ)'
    python = script(f"exec {sys.executable} -c '{probe}'")
    assert runtime_of(python) == "['transferlite'] False"


def test_a_program_that_is_not_a_python_with_a_runtime_is_rejected(script: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="/nowhere/python: cannot be run"):
        runtime_of("/nowhere/python")
    with pytest.raises(InputError, match=r"is not a Python with a TFLite runtime \(.*No module named 'numpy'"):
        runtime_of(script(f'exec {sys.executable} -S "$@"'))


def test_a_file_that_cannot_be_loaded_raises_the_runtimes_error(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + b"\0" * 100)
    with pytest.raises(BundleError, match="damaged or incomplete TFLite file"), other_python(sys.executable, path):
        pass


def test_a_crash_of_the_runtime_is_reported(exported: Exported, script: Callable[[str], str]) -> None:
    crash = script("kill -SEGV $$")
    loading = pytest.raises(BundleError, match=r"ended while it loaded the file \(status -11\)")
    with loading, other_python(crash, exported.tflite["float32"]):
        pass
    dies = script("echo '{\"classes\": 3}'; read line; kill -SEGV $$")
    running = pytest.raises(BundleError, match=r"ended while it ran the file \(status -11\)")
    with other_python(dies, exported.tflite["float32"]) as predict, running:
        predict(np.stack(pictures(7)))


def test_the_process_and_its_folder_are_removed(exported: Exported) -> None:
    with other_python(sys.executable, exported.tflite["float32"]) as predict:
        process, folder = predict._process, Path(f"/proc/{predict._process.pid}/cwd").resolve()
        assert folder.is_dir()
    assert process.returncode is not None
    assert not folder.exists()
