"""The rooms, the arrows between them, and what must not be imported."""

import ast
import importlib.util
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import Trained
from tests.pictures import jpeg

ROOT = Path(__file__).parents[1]

FLOORS: dict[str, tuple[str, ...]] = {
    "transferlite": (
        *("errors", "environment", "child_python"),
        *("inference", "storage", "images", "trust", "registry", "predict", "edge", "monitoring"),
        *("cloud", "packaging", "cli", "__main__"),
    ),
    "export": ("native_logs", "tflite", "keras_to_tflite", "saved_model", "gate", "browser", "cli"),
    "train_job": (
        *("progress", "arrow", "digests", "sigterm", "scores"),
        *("data", "options", "data.labels", "backbones", "store", "head", "quality", "extraction"),
        *("evaluation", "reporting", "pipeline", "pretrained", "cli"),
    ),
    "inference_lambda": (
        *("settings", "events", "observability", "records", "current_model", "decode_apart", "service", "http"),
        *("cold_start", "handler", "serve"),
    ),
}
"""Each room's files and sub-packages, lowest first: each may import those before it, and itself."""

MAY_IMPORT = {
    "transferlite": set[str](),
    "inference_lambda": {"transferlite"},
    "export": {"transferlite"},
    "train_job": {"export", "transferlite"},
}
"""The arrows between rooms. The command line reaches the other rooms by name, when a command runs."""

OTHER_FOLDERS = {"benchmarks", "docs", "simulation", "tests"}
HEAVY = {"tensorflow", "keras", "pandas", "h5py", "rich", "matplotlib", "sklearn", "cleanlab", "jinja2"}
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES, MOST_NESTING = 15, 300, 60, 4


def modules(*rooms: str) -> dict[str, Path]:
    """Each module's file by its dotted name."""
    found = {}
    for room in rooms or tuple(FLOORS):
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> set[str]:
    """All that a file imports, anywhere in it: modules, and names of modules that may be modules themselves."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def arrows(*rooms: str) -> dict[str, set[str]]:
    """Each module of the rooms, with those modules of any room that it imports."""
    known = modules()
    return {name: (imported(path) & known.keys()) - {name} for name, path in modules(*rooms).items()}


def floor_of(room: str, name: str) -> int:
    """The number of the longest entry of the room's table that the module lies in."""
    rest = name.removeprefix(f"{room}.")
    fitting = [entry for entry in FLOORS[room] if rest == entry or rest.startswith(f"{entry}.")]
    assert fitting, f"{name} is on no floor of FLOORS[{room!r}]: add it there"
    return FLOORS[room].index(max(fitting, key=len))


def test_there_is_no_other_room() -> None:
    folders = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/*.py")}
    assert folders == {*FLOORS, *OTHER_FOLDERS} - {"docs"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_between_rooms_go_one_way(room: str) -> None:
    for name, targets in arrows(room).items():
        foreign = {target.split(".")[0] for target in targets} - {room} - MAY_IMPORT[room]
        assert not foreign, f"{name} imports {foreign}"


@pytest.mark.parametrize("room", FLOORS)
def test_no_import_goes_up(room: str) -> None:
    for name, targets in arrows(room).items():
        if name == room:  # the public names, imported when they are used
            continue
        for target in targets:
            if target.startswith(f"{room}."):
                assert floor_of(room, target) <= floor_of(room, name), f"{name} imports {target}, which is above it"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {name: targets for name, targets in arrows().items() if name not in FLOORS}
    inside = {name: {target for target in targets if target not in FLOORS} for name, targets in graph.items()}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def named_outside() -> str:
    """All text that may name a module but by an import of a room: commands, tests, documents, scripts."""
    files = [*ROOT.glob("*.*"), *ROOT.glob("Makefile"), *ROOT.glob("*/Dockerfile")]
    files += [path for folder in OTHER_FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md"}]
    files += modules().values()
    return "\n".join(path.read_text() for path in files if path.is_file() and path.suffix not in {".zip"})


def test_every_module_is_used() -> None:
    used: set[str] = set().union(*arrows().values())
    text = named_outside()
    for name, path in modules().items():
        if path.name in {"__init__.py", "__main__.py"} or name in used:
            continue
        places = (name, str(path.relative_to(ROOT)))
        assert any(place in text for place in places), f"nothing names {name}"


def test_no_folder_holds_too_many_modules() -> None:
    counts: dict[Path, int] = defaultdict(int)
    for path in modules(*FLOORS, "benchmarks", "simulation").values():
        counts[path.parent] += path.name != "__init__.py"
    assert not {str(folder): count for folder, count in counts.items() if count > MOST_MODULES}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}.{node.name}", node


def lines_of(node: ast.FunctionDef) -> int:
    """Lines of a function without its docstring, from ``def`` to its end."""
    text = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    doc = int(node.body[0].end_lineno or 0) - node.body[0].lineno + 1 if text else 0
    return int(node.end_lineno or 0) - node.lineno + 1 - doc


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Depth of nested blocks below a function; a function inside a function is counted by itself."""
    deeper = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)
    found = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        found = max(found, nesting(child, depth + (isinstance(child, deeper) and not is_elif)))
    return found


def test_files_and_functions_stay_small() -> None:
    long_files = {
        name: count for name, path in modules().items() if (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long_files
    sizes = {name: lines_of(node) for name, node in functions()}
    assert not {name: size for name, size in sizes.items() if size > MOST_FUNCTION_LINES}
    assert sorted(sizes.values())[len(sizes) // 2] <= 8
    assert not {name: depth for name, node in functions() if (depth := nesting(node)) > MOST_NESTING}


@pytest.mark.parametrize("room", ["transferlite", "inference_lambda"])
def test_the_serving_rooms_name_no_heavy_package(room: str) -> None:
    for name, path in modules(room).items():
        assert not {one.split(".")[0] for one in imported(path)} & HEAVY, name


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


def test_the_serving_rooms_import_whole_without_tensorflow() -> None:
    done = run_blocked("""
import transferlite, inference_lambda
for package in (transferlite, inference_lambda):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
""")
    assert done.returncode == 0, done.stderr
    expected = {"transferlite.predict.predictor", "transferlite.storage.s3_boto3", "inference_lambda.handler"}
    assert expected <= set(done.stdout.split())


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
            for name in (
                "train",
                "publish",
                "check",
                "predict",
                "explain",
                "models",
                "edge",
                "keys",
                "report",
                "drift",
                "export",
            )
        ),
    ],
)
def test_help_works_without_tensorflow(words: list[str]) -> None:
    done = run_blocked("from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))", *words)
    assert done.returncode == 0, done.stderr
    assert "Usage: transferlite" in done.stdout


def test_the_top_help_imports_no_command() -> None:
    code = "from transferlite.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = run_blocked(code)
    loaded = {name for name in done.stderr.split() if name.split(".")[0] in {*FLOORS, "numpy", "PIL", "boto3"}}
    assert loaded <= {f"transferlite{part}" for part in ("", ".cli", ".cli.main", ".errors", ".environment")}


def test_the_public_import_loads_neither_numpy_nor_pillow() -> None:
    code = "import transferlite, sys; print({'numpy', 'PIL', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert importlib.util.find_spec("runtime") is None
