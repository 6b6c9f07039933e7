import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trained
from tests.pictures import jpeg
from transferlite.cli.main import run
from transferlite.edge.benchmark import BenchmarkCase, BenchmarkResult, _summarise
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import MANIFEST

Out = pytest.CaptureFixture[str]


@pytest.fixture
def broken(trained: Trained, tmp_path: Path) -> Path:
    """The trained bundle with one byte of int8 changed."""
    manifest = read_manifest(trained.bundle)
    for name in manifest.serving_files(["float32", "int8"]):
        (tmp_path / name).write_bytes((trained.bundle / name).read_bytes())
    content = bytearray((tmp_path / "int8.tflite").read_bytes())
    content[-1] ^= 1
    (tmp_path / "int8.tflite").write_bytes(content)
    (tmp_path / MANIFEST).write_bytes(manifest.to_json())
    return tmp_path


def test_each_variant_is_measured_with_each_count_of_threads(trained: Trained, tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg("red", 1))
    words = ["edge", "bench", "--bundle", str(trained.bundle), "--threads", "1,2", "--starts", "2", "--calls", "5"]
    assert run([*words, "--photo", str(tmp_path / "photo.jpg"), "--variants", "int8,float32", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model_id"] == trained.result.manifest.model_id
    assert result["photo"] == "photo.jpg"
    assert [(case["variant"], case["threads"]) for case in result["cases"]] == [
        *[("int8", 1), ("int8", 2)],
        *[("float32", 1), ("float32", 2)],
    ]
    for case in result["cases"]:
        assert 0 < case["p50"] <= case["p99"]
        assert case["cold"] > 0
        assert case["memory"] > 20 * 2**20
        assert case["size"] == trained.result.manifest.variants[case["variant"]].size
        assert case["calls"] == 6  # 3 in each process
        assert case["runtime"].startswith("ai-edge-litert 2.")
        assert case["error"] == ""


def test_an_error_in_one_variant_is_printed_and_the_others_are_measured(broken: Path, capsys: Out) -> None:
    words = ["edge", "bench", "--bundle", str(broken), "--threads", "1", "--starts", "1", "--calls", "1"]
    assert run(words) == 1
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert "does not have the manifest's sha256" in out
    assert "error: 1 of 2 cases could not be measured" in err
    assert [len(row) for row in rows if row[:2] == ["float32", "1"] and "-" not in row] == [7]
    assert [row[2:6] for row in rows if row[:2] == ["int8", "1"]] == [["-"] * 4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "is not a list such as 1,4"),
        (["--threads", "1,x"], "is not a list such as 1,4"),
        (["--variants", "int7"], "has no variant 'int7'"),
        (["--photo", "/no/such/photo.jpg"], "does not exist"),
    ],
)
def test_wrong_options_are_refused(trained: Trained, capsys: Out, words: list[str], message: str) -> None:
    assert run(["edge", "bench", "--bundle", str(trained.bundle), *words]) == 2
    assert message in capsys.readouterr().err


def process_result(*seconds: float, first: float = 1.0, peak: int = 2**20) -> dict[str, Any]:
    return {"first": first, "seconds": list(seconds), "peak": peak, "runtime": "a runtime 1"}


def test_the_summary_covers_all_processes(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(bytes(2**20))
    results = [
        process_result(*range(1, 100), first=3),
        process_result(100, first=1, peak=2**21),
        process_result(first=2),
    ]
    case = _summarise("x", 1, tmp_path / "x.tflite", results)
    assert (case.cold, case.p50, case.p99, case.memory, case.calls) == (2, 50.5, 99, 2**21, 100)
    table = BenchmarkResult(
        "m", "arm", 4, "3.11", "a photo", (case, BenchmarkCase("y", 4, 2**22, error="will not load"))
    ).table()
    assert table.splitlines() == [
        "m on arm, 4 cores, Python 3.11, a runtime 1; a photo",
        "variant  threads  cold ms   p50 ms   p99 ms  memory MiB  size MiB",
        "      x        1   2000.0  50500.0  99000.0         2.0       1.0",
        "      y        4        -        -        -           -       4.0",
        "y: will not load",
    ]
