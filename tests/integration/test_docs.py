"""The commands of the README and of every page of the documentation do what is said there."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from runtime.bundle import MANIFEST
from runtime.registry import Registry
from runtime.s3 import s3_client
from tests.conftest import Trained
from tests.pictures import jpeg, write_folders
from transferlite.__main__ import run, transferlite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language, those within lists too."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each ``$ transferlite`` line, in order."""
    lines = [line.strip() for block in blocks(text, "console") for line in block.splitlines()]
    assert all(line.startswith("$ transferlite ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


@pytest.fixture
def a_users_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Any) -> None:
    """A working directory with ``photos/`` and ``photo.jpg``, and the two buckets of the documentation."""
    write_folders(tmp_path / "photos", 10)
    (tmp_path / "photo.jpg").write_bytes(jpeg("red", 100))
    monkeypatch.chdir(tmp_path)
    for name in ("my-photos", "my-models"):
        s3_client().create_bucket(Bucket=name)
    rows = ["File Name,Label"]
    for path in Path("photos").rglob("*.jpg"):
        s3_client().put_object(Bucket="my-photos", Key=f"train_img/{path.name}", Body=path.read_bytes())
        rows.append(f"{path.name},{path.parent.name}")
    s3_client().put_object(Bucket="my-photos", Key="label-train.csv", Body="\n".join(rows).encode())
    s3_client().put_object(Bucket="my-photos", Key="new/photo.jpg", Body=jpeg("red", 100))


@pytest.fixture
def with_models(a_users_machine: None, trained: Trained) -> None:
    """The same after two trainings: the channel names the second version in ``models/``."""
    shutil.copytree(trained.registry, "models")
    registry = Registry.open("models")
    (first,) = registry.versions()
    second = dataclasses.replace(first, model_id=f"{first.model_id}b")
    shutil.copytree(f"models/models/{first.model_id}", "second")
    Path("second", MANIFEST).write_bytes(second.to_json())
    registry.publish(Path("second"), second)
    registry.promote(second.model_id, "production")


@pytest.mark.usefixtures("a_users_machine")
def test_the_readmes_commands_work_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(README):
        assert run(words) == 0, words
        out, err = capsys.readouterr()
        assert "error" not in err, words
        if words[0] == "predict":
            assert "red" in out.splitlines()[0]
    (program,) = blocks(README, "python")
    exec(program, {})
    assert capsys.readouterr().out == "red\n"


@pytest.mark.usefixtures("with_models")
@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if commands(text)])
def test_a_pages_commands_work_in_their_order(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(PAGES[page]):
        assert run(words) == 0, (words, capsys.readouterr().err)


def _options(command: click.Command, context: click.Context) -> set[str]:
    """Every option of a command and of those below it."""
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= _options(below, context)
    return found


ELSEWHERE = {"--model_base_path", "--logdir", "--build-arg", "--debug", "--help", "--quick", "--photos"}
"""Options of TensorFlow Serving, TensorBoard, Docker, the console script itself and the benchmarks."""

OTHERS_COMMAND = re.compile(r"\b(aws|sam|debootstrap|docker|pip|podman|make|npm|curl|openssl|ssh|git)\b|python -m")


def test_every_option_that_is_named_exists() -> None:
    known = _options(transferlite, click.Context(transferlite)) | ELSEWHERE
    for page, text in {"README.md": README, **PAGES}.items():
        prose = "\n".join(line for line in text.replace("\\\n", " ").splitlines() if not OTHERS_COMMAND.search(line))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", prose))
        assert named <= known, (page, named - known)


def test_the_map_of_the_code_names_files_that_exist() -> None:
    code_map = README.split("## Map of the code")[1].split("```")[1]
    room = Path()
    for line in code_map.splitlines():
        if line and not line.startswith(" "):
            room = ROOT / line.split()[0]
            assert room.exists(), room
        for name in re.findall(r"[a-z_0-9]+\.py", line):
            assert (room / name).is_file(), f"{room}/{name}"


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    assert sorted(f"docs/{name}" for name in re.findall(r": (\S+\.md)", navigation)) == sorted(PAGES)
