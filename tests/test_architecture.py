"""The arrows between the rooms, and what must not be imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Trained
from tests.pictures import jpeg

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "runtime": set[str](),
    "inference_lambda": {"runtime"},
    "export": {"runtime"},
    "train_job": {"export", "runtime"},
}
ROOMS = {*MAY_IMPORT, "transferlite"}
HEAVY = {"tensorflow", "keras", "pandas", "h5py", "rich", "matplotlib", "sklearn", "cleanlab", "jinja2"}


def imported(path: Path) -> set[str]:
    """The first words of all that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_between_rooms_go_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        foreign = imported(path) & ROOMS - {room} - MAY_IMPORT[room]
        assert not foreign, f"{path} imports {foreign}"


@pytest.mark.parametrize("room", ["runtime", "inference_lambda"])
def test_the_serving_rooms_name_no_heavy_package(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not imported(path) & HEAVY, path


BLOCKED = """
import sys, pkgutil, importlib
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Refuse())
"""


def run_blocked(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process in which importing a heavy package fails."""
    program = BLOCKED.format(heavy=HEAVY) + code
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_runtime_and_lambda_import_whole_without_tensorflow() -> None:
    done = run_blocked("""
import runtime, inference_lambda
for package in (runtime, inference_lambda):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
""")
    assert done.returncode == 0, done.stderr
    assert {"runtime.predictor", "runtime.cli", "runtime.s3", "inference_lambda.handler"} <= set(done.stdout.split())


def test_the_handler_predicts_without_tensorflow(trained: Trained, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg("blue", 50))
    done = run_blocked(
        """
import base64, os
os.environ["TRANSFERLITE_REGISTRY"] = sys.argv[1]
from inference_lambda.handler import lambda_handler
print(lambda_handler({"image": base64.b64encode(open(sys.argv[2], "rb").read()).decode()}, None)["label"])
""",
        str(trained.registry),
        str(photo),
    )
    assert done.stdout == "blue\n", done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *(
            [name, "--help"]
            for name in ("train", "check", "predict", "explain", "models", "edge", "keys", "report", "drift", "export")
        ),
    ],
)
def test_help_works_without_tensorflow(words: list[str]) -> None:
    done = run_blocked("from transferlite.__main__ import run; sys.exit(run(sys.argv[1:]))", *words)
    assert done.returncode == 0, done.stderr
    assert "Usage: transferlite" in done.stdout


def test_the_top_help_imports_no_room_beyond_the_errors() -> None:
    code = "from transferlite.__main__ import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = run_blocked(code)
    loaded = {name for name in done.stderr.split() if name.split(".")[0] in ROOMS | {"numpy", "PIL", "boto3"}}
    assert loaded <= {"transferlite", "transferlite.__main__", "runtime", "runtime.errors"}
