"""Child processes: they run the same packages as their parent, and nothing that lies in the current folder."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from transferlite.child_python import module_command, safe_path

NAMES = ("json", "runpy", "random", "multiprocessing", "numpy", "transferlite", "runtime", "sitecustomize")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules that leave a file behind when they are imported."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "", ".", str(tmp_path)])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_child_process_imports_nothing_from_the_current_folder(folder: Path) -> None:
    done = subprocess.run(module_command("transferlite", "--version"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:12]) == (0, "transferlite"), done.stderr
    subprocess.run([sys.executable, *module_command("json.tool", "--help")[1:]], capture_output=True, check=True)
    assert not (folder / "imported").exists()


def test_the_modules_would_run_in_an_ordinary_child_process(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "json.tool", "--help"], capture_output=True, check=False)
    assert (folder / "imported").exists()


def test_a_process_of_multiprocessing_imports_nothing_from_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in {"", ".", str(folder)}])
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=print)
    with safe_path():
        process.start()
    process.join()
    assert process.exitcode == 0
    assert not (folder / "imported").exists()
