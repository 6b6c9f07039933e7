"""The zip for Lambda answers under AWS's runtime client, with nothing else on the path."""

import base64
import sys
import zipfile
from pathlib import Path

import awslambdaric
import pytest
import simplejson
import snapshot_restore_py

from tests.conftest import Trained
from tests.inference_lambda.models import publish
from tests.inference_lambda.runtime_api import HANDLER, Function
from tests.installed import Install
from tests.pictures import jpeg
from transferlite.cli.main import run
from transferlite.errors import InputError, TransferLiteError
from transferlite.packaging import device_folder, lambda_zip
from transferlite.packaging.device_folder import THIS_PYTHON

IN_ANY_PYTHON = """
import sys
from transferlite.cli.main import run
from transferlite.packaging import lambda_zip
lambda_zip.OLDEST = (3, 11)
sys.exit(run(sys.argv[1:]))
"""
"""The command line without Lambda's limit, so that the Python that runs the tests can run the zip."""


@pytest.fixture(scope="module")
def packed(installed: Install, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an install of the wheel builds in an empty folder."""
    dest = tmp_path_factory.mktemp("zip") / "lambda.zip"
    words = ["package", "function", "--dest", dest, "--architecture", "x86_64", "--python", THIS_PYTHON]
    done = installed.execute(IN_ANY_PYTHON, *words)
    if "Connection" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip(f"no package index can be reached: {done.stderr}")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(dest) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < 125 * 2**20
    return dest


def lambda_s_client(folder: Path) -> Path:
    """A folder with AWS's runtime client alone, as Lambda's own Python has it."""
    folder.mkdir()
    site = Path(awslambdaric.__file__).parents[1]
    for found in (Path(awslambdaric.__file__).parent, Path(simplejson.__file__).parent):
        (folder / found.name).symlink_to(found)
    for found in (Path(snapshot_restore_py.__file__), *site.glob("runtime_client*.so")):
        (folder / found.name).symlink_to(found)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="Lambda's files run on Linux")
def test_the_zip_alone_answers_under_the_runtime_client(packed: Path, trained: Trained, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "task")
    registry = publish(str(tmp_path / "registry"), trained, "one")
    path = f"{tmp_path / 'task'}:{lambda_s_client(tmp_path / 'client')}"
    command = [sys.executable, "-P", "-S", "-m", "awslambdaric", HANDLER]
    with Function({"TRANSFERLITE_REGISTRY": registry.store.uri, "PYTHONPATH": path}, command) as function:
        answer = function.invoke({"image": base64.b64encode(jpeg("red", 7)).decode()})
    assert answer.error is None
    assert (answer.payload["model_id"], answer.payload["label"]) == ("one", "red")


def test_the_zip_holds_bytecode_and_nothing_of_the_training_and_all_may_read_it(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        entries = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert f"inference_lambda/__pycache__/handler.{sys.implementation.cache_tag}.pyc" in entries
    assert not [name for name in entries if name.startswith(("train_job/", "export/", "tests/"))]
    assert {mode & 0o444 for mode in entries.values()} == {0o444}


@pytest.mark.parametrize(
    ("architecture", "python", "message"),
    [("riscv", "3.12", "there is no architecture 'riscv'"), ("arm64", "3.11", "Lambda's Python 3.11 has no LiteRT")],
)
def test_what_lambda_does_not_have_is_refused(tmp_path: Path, architecture: str, python: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lambda_zip.write_zip(tmp_path / "lambda.zip", architecture, python)


def test_what_lambda_would_not_take_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(folder: Path, *_: object) -> None:
        folder.mkdir()
        (folder / "large.so").write_bytes(bytes(1000))

    monkeypatch.setattr(device_folder, "build", large)
    monkeypatch.setattr(lambda_zip, "MOST_BYTES", 999)
    with pytest.raises(TransferLiteError, match="has 1,000 bytes unpacked; Lambda takes 999"):
        lambda_zip.write_zip(tmp_path / "lambda.zip", "arm64", "3.12")
    assert not list(tmp_path.iterdir())


def test_the_same_function_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(folder: Path, *_: object) -> None:
        (folder / "b").mkdir(parents=True)
        (folder / "b" / "c.py").write_text("pass")
        (folder / "a.so").write_bytes(b"a")

    monkeypatch.setattr(device_folder, "build", small)
    for name in ("one.zip", "two.zip"):
        lambda_zip.write_zip(tmp_path / name, "arm64", "3.12")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_zip_of_signed_models_has_what_checks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(folder: Path, extras: tuple[str, ...], *_: object) -> None:
        folder.mkdir()
        (folder / "extras.txt").write_text(" ".join(extras))

    monkeypatch.setattr(device_folder, "build", noted)
    dest = tmp_path / "lambda.zip"
    assert run(["package", "function", "--dest", str(dest), "--extra", "signed"]) == 0
    with zipfile.ZipFile(dest) as archive:
        assert archive.read("extras.txt") == b"lambda signed"


def test_without_lambda_s_python_the_zip_has_no_bytecode_and_the_cost_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name on PATH that does not start counts as missing: version managers leave such names."""

    def install(folder: Path, *_: object) -> None:
        folder.mkdir()
        (folder / "module.py").write_text("pass")

    other = "3.12" if THIS_PYTHON != "3.12" else "3.13"
    (tmp_path / f"python{other}").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / f"python{other}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(device_folder, "_install", install)
    assert run(["package", "function", "--dest", str(tmp_path / "lambda.zip"), "--python", other]) == 0
    with zipfile.ZipFile(tmp_path / "lambda.zip") as archive:
        assert archive.namelist() == ["module.py"]
    assert f"note: no bytecode, as there is no python{other} here" in capsys.readouterr().err
