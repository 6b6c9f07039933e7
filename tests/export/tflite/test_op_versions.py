import json
import re
from pathlib import Path

import pytest

from export.tflite.op_versions import TABLE, Operation, needs, oldest_runtime, profiles, refused
from export.tflite.tflite_file import operator_code, read_tflite, write_tflite
from tests.conftest import Trained
from transferlite.cli.main import run
from transferlite.inference.interpreter import TFLiteClassifier


@pytest.fixture
def newer(trained: Trained, tmp_path: Path) -> Path:
    """The float32 file listing FULLY_CONNECTED in a version that came after tflite-runtime 2.14."""
    model = read_tflite((trained.bundle / "float32.tflite").read_bytes())
    code = operator_code("FULLY_CONNECTED")
    code.version = 12
    model.operatorCodes.append(code)
    path = tmp_path / "newer.tflite"
    path.write_bytes(write_tflite(model))
    return path


def test_a_files_operations_are_named_with_their_versions(trained: Trained) -> None:
    needed = needs(trained.bundle / "float32.tflite")
    assert needed == sorted(needed)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"} <= {one.name for one in needed}
    assert all(1 <= one.version <= 20 for one in needed)


def test_every_file_of_a_bundle_is_taken_by_every_runtime_of_the_table(trained: Trained) -> None:
    for path in trained.bundle.glob("*.tflite"):
        assert {name: refused(needs(path), name) for name in profiles()} == {name: [] for name in profiles()}


def test_the_oldest_release_is_that_of_the_newest_operation(trained: Trained, newer: Path) -> None:
    assert oldest_runtime(needs(newer)) == "2.17.0"
    assert oldest_runtime([Operation("ADD", 1), Operation("FULLY_CONNECTED", 10)]) == "2.11.0"
    assert oldest_runtime([Operation("ADD", 1), Operation("CONV_2D", 2)]) == "1.14.0"
    assert oldest_runtime([Operation("ADD", 19)]) is None
    assert oldest_runtime([]) is None


def test_the_table_says_of_the_runtime_that_is_installed_what_it_does(newer: Path) -> None:
    """LiteRT loads the newer file, and no file that lists an operation beyond the table's range."""
    from transferlite.errors import BundleError

    (name,) = [name for name in profiles() if name == "ai-edge-litert-2.3"]
    assert refused(needs(newer), name) == []
    TFLiteClassifier(newer)
    last = json.loads(TABLE.read_text())["profiles"][name]["operations"]["FULLY_CONNECTED"][1]
    model = read_tflite(newer.read_bytes())
    model.operatorCodes[-1].version = last + 1
    newer.write_bytes(write_tflite(model))
    assert refused(needs(newer), name)
    with pytest.raises(BundleError, match="FULLY_CONNECTED"):
        TFLiteClassifier(newer)


def test_the_check_names_what_a_runtime_does_not_take(newer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "check", str(newer), "--profile", "tflite-runtime-2.14"]) == 2
    out, err = capsys.readouterr()
    assert re.search(r"^FULLY_CONNECTED +version 12$", out, re.MULTILINE)
    assert "oldest TensorFlow Lite: 2.17.0" in out
    assert "is not taken by tflite-runtime-2.14 (FULLY_CONNECTED is needed in version 12, and it has 1 to 10)" in err
    assert run(["export", "check", str(newer), "--profile", "ai-edge-litert-2.3"]) == 0
    assert "takes it" in capsys.readouterr().out
    assert run(["export", "check", str(newer)]) == 0  # without a profile it only tells
    assert "does not take it" in capsys.readouterr().out


def test_the_check_is_json_for_machines(newer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "check", str(newer), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"name": "FULLY_CONNECTED", "version": 12} in said["operations"]
    assert said["oldest"] == "2.17.0"
    assert said["refused"]["ai-edge-litert-2.3"] == []
    assert len(said["refused"]["tflite-runtime-2.14"]) == 1


def test_a_custom_operation_is_taken_by_none(newer: Path) -> None:
    model = read_tflite(newer.read_bytes())
    code = operator_code("CUSTOM")
    code.customCode = "FlexErf"
    model.operatorCodes.append(code)
    newer.write_bytes(write_tflite(model))
    needed = needs(newer)
    assert Operation("CUSTOM FlexErf", 1) in needed
    assert oldest_runtime(needed) is None
    assert all("it has no CUSTOM FlexErf" in refused(needed, name) for name in profiles())


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\x1c\x00\x00\x00TFL3", b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64]
)
def test_what_is_no_tflite_file_is_said_to_be_none(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    assert run(["export", "check", str(tmp_path / "model.tflite")]) == 2
    assert "TFLite file" in capsys.readouterr().err


def test_a_profile_that_is_not_known_is_told_with_those_that_are(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "check", str(trained.bundle / "float32.tflite"), "--profile", "toaster"]) == 2
    assert "no profile toaster; known: ai-edge-litert-2.0" in capsys.readouterr().err


def test_the_check_runs_without_tensorflow(trained: Trained) -> None:
    from tests.test_architecture import run_blocked

    code = "from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = run_blocked(code, "export", "check", str(trained.bundle / "int8.tflite"), "--profile", "tflite-runtime-2.14")
    assert (done.returncode, done.stderr) == (0, "")
