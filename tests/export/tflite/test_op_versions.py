import json
import re
from pathlib import Path

import pytest

from export.tflite.op_versions import (
    TABLE,
    Operation,
    incompatibilities,
    oldest_runtime,
    required_operations,
    runtime_profiles,
)
from export.tflite.tflite_file import operator_code, read_tflite, write_tflite
from tests.conftest import Trained
from transferlite.cli.main import run
from transferlite.inference.interpreter import TFLiteClassifier


@pytest.fixture
def newer(trained: Trained, tmp_path: Path) -> Path:
    """The float32 file with FULLY_CONNECTED in a version that tflite-runtime 2.14 does not have."""
    model = read_tflite((trained.bundle / "float32.tflite").read_bytes())
    code = operator_code("FULLY_CONNECTED")
    code.version = 12
    model.operatorCodes.append(code)
    path = tmp_path / "newer.tflite"
    path.write_bytes(write_tflite(model))
    return path


def test_the_operations_of_a_file_are_listed_with_their_versions(trained: Trained) -> None:
    needed = required_operations(trained.bundle / "float32.tflite")
    assert needed == sorted(needed)
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"} <= {operation.name for operation in needed}
    assert all(1 <= operation.version <= 20 for operation in needed)


def test_every_runtime_of_the_table_loads_every_file_of_a_bundle(trained: Trained) -> None:
    for path in trained.bundle.glob("*.tflite"):
        assert {name: incompatibilities(required_operations(path), name) for name in runtime_profiles()} == {
            name: [] for name in runtime_profiles()
        }


def test_the_oldest_release_is_that_of_the_newest_operation(trained: Trained, newer: Path) -> None:
    assert oldest_runtime(required_operations(newer)) == "2.17.0"
    assert oldest_runtime([Operation("ADD", 1), Operation("FULLY_CONNECTED", 10)]) == "2.11.0"
    assert oldest_runtime([Operation("ADD", 1), Operation("CONV_2D", 2)]) == "1.14.0"
    assert oldest_runtime([Operation("ADD", 19)]) is None
    assert oldest_runtime([]) is None


def test_the_table_is_right_about_the_installed_runtime(newer: Path) -> None:
    """LiteRT loads the newer file, but no file with an operation beyond the table's range."""
    from transferlite.errors import BundleError

    (name,) = [name for name in runtime_profiles() if name == "ai-edge-litert-2.3"]
    assert incompatibilities(required_operations(newer), name) == []
    TFLiteClassifier(newer)
    last = json.loads(TABLE.read_text())["profiles"][name]["operations"]["FULLY_CONNECTED"][1]
    model = read_tflite(newer.read_bytes())
    model.operatorCodes[-1].version = last + 1
    newer.write_bytes(write_tflite(model))
    assert incompatibilities(required_operations(newer), name)
    with pytest.raises(BundleError, match="FULLY_CONNECTED"):
        TFLiteClassifier(newer)


def test_the_check_names_operations_that_a_runtime_does_not_have(
    newer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "check", str(newer), "--profile", "tflite-runtime-2.14"]) == 2
    out, err = capsys.readouterr()
    assert re.search(r"^FULLY_CONNECTED +version 12$", out, re.MULTILINE)
    assert "oldest TensorFlow Lite: 2.17.0" in out
    assert "cannot be loaded by tflite-runtime-2.14 (FULLY_CONNECTED is needed in version 12, and it has 1 to" in err
    assert run(["export", "check", str(newer), "--profile", "ai-edge-litert-2.3"]) == 0
    assert "loads it" in capsys.readouterr().out
    assert run(["export", "check", str(newer)]) == 0  # without --profile it only prints
    assert "does not load it" in capsys.readouterr().out


def test_the_check_prints_json(newer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "check", str(newer), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"name": "FULLY_CONNECTED", "version": 12} in printed["operations"]
    assert printed["oldest"] == "2.17.0"
    assert printed["refused"]["ai-edge-litert-2.3"] == []
    assert len(printed["refused"]["tflite-runtime-2.14"]) == 1


def test_no_runtime_has_a_custom_operation(newer: Path) -> None:
    model = read_tflite(newer.read_bytes())
    code = operator_code("CUSTOM")
    code.customCode = "FlexErf"
    model.operatorCodes.append(code)
    newer.write_bytes(write_tflite(model))
    needed = required_operations(newer)
    assert Operation("CUSTOM FlexErf", 1) in needed
    assert oldest_runtime(needed) is None
    assert all("it has no CUSTOM FlexErf" in incompatibilities(needed, name) for name in runtime_profiles())


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\x1c\x00\x00\x00TFL3", b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64]
)
def test_a_file_that_is_not_tflite_is_rejected(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    assert run(["export", "check", str(tmp_path / "model.tflite")]) == 2
    assert "TFLite file" in capsys.readouterr().err


def test_an_unknown_profile_is_reported_with_the_known_ones(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "check", str(trained.bundle / "float32.tflite"), "--profile", "toaster"]) == 2
    assert "no profile toaster; known: ai-edge-litert-2.0" in capsys.readouterr().err


def test_the_check_runs_without_tensorflow(trained: Trained) -> None:
    from tests.test_architecture import run_blocked

    code = "from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))"
    done = run_blocked(code, "export", "check", str(trained.bundle / "int8.tflite"), "--profile", "tflite-runtime-2.14")
    assert (done.returncode, done.stderr) == (0, "")
