"""Every photo is independent: names that are not UTF-8, photos that vanish, full disks and internal errors."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trained
from tests.permissions import unreadable
from tests.pictures import jpeg
from transferlite.cli.main import run
from transferlite.cli.print_predictions import OutputFile, PredictionPrinter, open_output, read_photo_names
from transferlite.cli.watch_folders import _WatchLabeller
from transferlite.edge.watch_photos import UNFINISHED_SECONDS, PhotoWatcher
from transferlite.errors import InputError, TransferLiteError
from transferlite.inference.prediction import Prediction

Out = pytest.CaptureFixture[str]
NAMES = (b"caf\xe9.jpg", b"plain.jpg", "\u4e09.jpg".encode(), b"\xff\xfe.jpg", b"new\nline.jpg", b'quo"te\\.jpg')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of photos, some with names that are not UTF-8."""
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(NAMES):
        Path(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/" + name)).write_bytes(jpeg("red", number))
    return tmp_path / "photos"


def predict(trained: Trained, *words: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run ``transferlite predict`` in a process: pytest's capture decodes standard output."""
    command = [sys.executable, "-m", "transferlite", "predict", *words, "--bundle", str(trained.bundle)]
    return subprocess.run(command, capture_output=True, check=False, **options)


def names_in(lines: bytes) -> set[bytes]:
    return {os.path.basename(os.fsencode(json.loads(line)["image"])) for line in lines.splitlines()}  # noqa: PTH119


def test_names_that_are_not_utf8_round_trip_in_json(trained: Trained, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = predict(trained, str(folder), "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.read_bytes()
    assert done.stdout.decode()  # valid UTF-8
    assert names_in(done.stdout) == set(NAMES)
    assert rb"caf\udce9.jpg" in done.stdout
    assert "\u4e09.jpg".encode() in done.stdout
    assert read_photo_names(out) == {os.fsdecode(os.fsencode(folder) + b"/" + name) for name in NAMES}


def test_names_that_are_not_utf8_are_printed_as_they_are(trained: Trained, folder: Path) -> None:
    done = predict(trained, str(folder))
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert os.fsencode(folder) + b"/" + name + b": red " in done.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8:strict"])
def test_output_that_cannot_hold_a_name_ends_no_prediction(trained: Trained, folder: Path, encoding: str) -> None:
    done = predict(trained, str(folder), env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": red ") == len(NAMES)


def test_a_rejected_photo_with_such_a_name_is_reported(trained: Trained, folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/" + NAMES[0])).write_bytes(b"")
    done = predict(trained, str(folder), "--json")
    assert done.returncode == 2
    assert names_in(done.stdout) == set(NAMES)


# -- --out ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_with_the_files_name(trained: Trained, folder: Path, capsys: Out) -> None:
    assert run(["predict", str(folder / "plain.jpg"), "--bundle", str(trained.bundle), "--out", "/dev/full"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: /dev/full: No space left on device\n" in err


@pytest.mark.parametrize("name", ["taken/out.jsonl", ".", "x" * 300])
def test_an_output_that_cannot_be_opened_is_named(
    trained: Trained, folder: Path, tmp_path: Path, name: str, capsys: Out
) -> None:
    (tmp_path / "taken").write_text("a file")
    words = ["predict", str(folder / "plain.jpg"), "--bundle", str(trained.bundle), "--out", str(tmp_path / name)]
    assert run(words) in {1, 2}
    assert str(tmp_path / name) in capsys.readouterr().err


def test_predictions_are_never_appended_to_a_photo(trained: Trained, folder: Path, capsys: Out) -> None:
    photo = folder / "plain.jpg"
    content = photo.read_bytes()
    assert run(["predict", str(photo), "--bundle", str(trained.bundle), "--out", str(photo)]) == 2
    assert "has a photo's extension; name it .jsonl" in capsys.readouterr().err
    assert photo.read_bytes() == content
    with pytest.raises(InputError, match="has a photo's extension"), open_output(folder / "new.PNG"):
        pass


def test_a_pipe_is_written_to(trained: Trained, folder: Path) -> None:
    done = predict(trained, str(folder / "plain.jpg"), "--json", "--out", "/dev/stdout")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == second


def test_a_line_that_was_cut_off_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"image": "a"}\n{"ima')
    with open_output(path) as output:
        assert output is not None
        output.append('{"image": "b"}')
    assert path.read_bytes() == b'{"image": "a"}\n{"ima\n{"image": "b"}\n'
    assert read_photo_names(path) == {"a", "b"}


class FullDisk:
    """File on a disk that takes ``space`` more bytes."""

    def __init__(self, path: Path, space: int) -> None:
        self.file = path.open("a+b", buffering=0)
        self.space = space

    def fileno(self) -> int:
        return self.file.fileno()

    def seek(self, *arguments: int) -> int:
        return self.file.seek(*arguments)

    def write(self, data: bytes) -> int:
        if not self.space:
            raise OSError(28, "No space left on device")
        written = self.file.write(data[: self.space])
        self.space -= written
        return written


def test_a_line_that_a_full_disk_cut_off_is_written_again(tmp_path: Path) -> None:
    disk: Any = FullDisk(tmp_path / "out.jsonl", 10)
    output = OutputFile(tmp_path / "out.jsonl", disk)
    with pytest.raises(OSError, match="No space left on device") as raised:
        output.append('{"image": "a"}')
    assert raised.value.filename == str(tmp_path / "out.jsonl")
    disk.space = 1000
    output.append('{"image": "a"}')
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"image": \n{"image": "a"}\n'


# -- --watch --------------------------------------------------------------------------------------------------------


class Model:
    """Predictor that returns one label, or raises ``error``."""

    error: Exception | None = None

    def __call__(self, photo: bytes, top: int) -> Prediction:
        if self.error is not None:
            raise self.error
        return Prediction("m", "red", 1.0, (("red", 1.0),))


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def scan(folder: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Function that scans the folder once, as ``predict --watch`` does, and returns the number of lines in --out."""
    predictor: Any = model
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watcher = PhotoWatcher([folder])
    with open_output(tmp_path / "out.jsonl") as output:
        labeller = _WatchLabeller(watcher, PredictionPrinter(predictor, as_json=True, output=output))

        def scan_once(seconds: float = 1.0) -> int:
            nonlocal now
            now += seconds
            for path in watcher.scan(now):
                if not labeller.label(path):
                    break
            return len((tmp_path / "out.jsonl").read_bytes().splitlines())

        scan_once()
        yield scan_once


def test_a_photo_that_vanishes_is_no_error(
    scan: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    scanned = PhotoWatcher.scan

    def scan_and_delete(watcher: PhotoWatcher, now: float) -> list[str]:
        paths = scanned(watcher, now)
        (folder / "plain.jpg").unlink(missing_ok=True)
        return paths

    monkeypatch.setattr(PhotoWatcher, "scan", scan_and_delete)
    assert scan() == len(NAMES) - 1
    assert scan() == len(NAMES) - 1
    assert capsys.readouterr().err == ""


def test_a_photo_without_permission_is_reported_once_and_labelled_later(
    scan: Callable[..., int], folder: Path, capsys: Out
) -> None:
    with unreadable(folder / "plain.jpg"):
        assert [scan(UNFINISHED_SECONDS) for _ in range(3)] == [len(NAMES) - 1] * 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"error: {folder}/plain.jpg: permission denied; it is tried again" in err
    assert scan() == len(NAMES)


def test_photos_wait_while_the_disk_of_out_is_full(
    scan: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Out
) -> None:
    append = OutputFile.append

    def fail(output: OutputFile, line: str) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "out.jsonl"))

    monkeypatch.setattr(OutputFile, "append", fail)
    assert [scan() for _ in range(3)] == [0, 0, 0]
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {tmp_path}/out.jsonl: No space left on device; photos wait until it can be written\n"
    monkeypatch.setattr(OutputFile, "append", append)
    assert scan() == len(NAMES)
    assert scan() == len(NAMES)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), UnicodeError("a name")])
def test_an_internal_error_is_reported_and_the_next_photo_is_labelled(
    scan: Callable[..., int], model: Model, tmp_path: Path, error: Exception
) -> None:
    model.error = error
    scan(UNFINISHED_SECONDS + 1)
    model.error = None
    assert scan() == len(NAMES)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert {record["error"]["code"] for record in records} == {"internal-error"}


def test_an_internal_error_ends_no_other_prediction(
    trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    from transferlite.predict.predictor import Predictor

    call = Predictor.__call__
    calls = iter(range(len(NAMES)))

    def fail_first(predictor: Predictor, photo: Any, top: int = 3) -> Prediction:
        if next(calls) == 0:
            raise ZeroDivisionError("a bug")
        return call(predictor, photo, top)

    monkeypatch.setattr(Predictor, "__call__", fail_first)
    assert run(["predict", str(folder / "plain.jpg"), str(folder / "\u4e09.jpg"), "--bundle", str(trained.bundle)]) == 2
    out, err = capsys.readouterr()
    assert "\u4e09.jpg: red" in out
    assert "plain.jpg: internal error: ZeroDivisionError: a bug; please report it" in err


def test_a_folder_that_is_removed_and_comes_back_is_watched(
    scan: Callable[..., int], folder: Path, tmp_path: Path
) -> None:
    assert scan() == len(NAMES)
    folder.rename(tmp_path / "unplugged")
    assert scan() == scan() == len(NAMES)
    (tmp_path / "unplugged").rename(folder)
    (folder / "next.jpg").write_bytes(jpeg("blue", 9))
    scan()
    assert scan() == len(NAMES) + 1


def test_watching_names_that_are_not_utf8_resumes_after_a_restart(
    trained: Trained, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["predict", str(folder), "--watch", "--every", "0.1", "--out", str(out), "--bundle", str(trained.bundle)]
    for number in range(2):
        Path(folder, f"{number}.jpg").write_bytes(jpeg("blue", number))
        expected = len(NAMES) + number + 1
        with subprocess.Popen([sys.executable, "-m", "transferlite", *words], stdout=subprocess.PIPE) as watching:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (not out.exists() or len(out.read_bytes().splitlines()) < expected):
                time.sleep(0.05)
            watching.send_signal(signal.SIGTERM)
            assert watching.wait(30) == 0
        assert names_in(out.read_bytes()) == {*NAMES, *(f"{n}.jpg".encode() for n in range(number + 1))}
        assert len(out.read_bytes().splitlines()) == expected


def test_a_watched_folder_error_is_a_transferlite_error(tmp_path: Path) -> None:
    with pytest.raises(TransferLiteError, match="is not a local folder to watch"):
        PhotoWatcher([tmp_path / "none"])
