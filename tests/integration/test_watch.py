"""`transferlite predict --watch` as a process: whole, partly written and bad photos arrive, and a signal ends it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Trained
from tests.pictures import jpeg

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys, transferlite.edge.watch_photos; transferlite.edge.watch_photos.UNFINISHED_SECONDS = 3.0; "
    "from transferlite.cli.main import main; main()"
)


@contextmanager
def watching(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Run the command; kill it at the end of the block."""
    command = [sys.executable, "-c", PROGRAM, "predict", "--watch", "--every", "0.1", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def test_each_arriving_photo_is_predicted_once_and_a_signal_ends_the_command(trained: Trained, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "answers" / "out.jsonl"
    folder.mkdir()
    (folder / "there.jpg").write_bytes(jpeg("red", 1))
    with watching(folder, "--bundle", trained.bundle, "--out", out) as process:
        wait_until(lambda: len(lines(out)) == 1)
        whole = jpeg("blue", 2)
        with (folder / "slow.jpg").open("wb", buffering=0) as file:
            file.write(whole[: len(whole) // 2])
            time.sleep(0.5)  # several scans, during which the half photo does not change
            assert len(lines(out)) == 1
            file.write(whole[len(whole) // 2 :])
        (folder / "bad.jpg").write_bytes(b"no photo at all")
        (tmp_path / "moved.jpg").write_bytes(jpeg("red", 3))
        (tmp_path / "moved.jpg").rename(folder / "moved.jpg")
        wait_until(lambda: len(lines(out)) == 4)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    found = {Path(record["image"]).name: record for record in lines(out)}
    assert {name: record.get("label") for name, record in found.items()} == {
        "there.jpg": "red", "slow.jpg": "blue", "moved.jpg": "red", "bad.jpg": None,
    }  # fmt: skip
    assert found["bad.jpg"]["error"]["code"] == "not-image"
    assert len(output.splitlines()) == 3
    assert "bad.jpg: not an image" in errors
    assert "Traceback" not in errors


def test_a_restart_skips_predicted_photos_even_after_a_power_cut(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for name in ("one", "two"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg("red", 1))
    out.write_text(json.dumps({"image": str(tmp_path / "one.jpg"), "label": "red"}) + '\n{"image": "half a li')
    with watching(tmp_path, "--bundle", trained.bundle, "--out", out, "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["image"] == str(tmp_path / "two.jpg")
        (tmp_path / "three.jpg").write_bytes(jpeg("blue", 1))
        assert json.loads(process.stdout.readline())["label"] == "blue"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert [Path(json.loads(line)["image"]).name for line in out.read_text().splitlines()[2:]] == [
        "two.jpg",
        "three.jpg",
    ]
