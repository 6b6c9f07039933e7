"""The README's commands do what it says."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from runtime.s3 import s3_client
from tests.pictures import jpeg, write_folders
from transferlite.__main__ import run

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of each ``$ transferlite`` line, in order."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ transferlite ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


@pytest.fixture
def a_users_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Any) -> None:
    """A working directory with ``photos/`` and ``photo.jpg``, and the README's two buckets."""
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


@pytest.mark.usefixtures("a_users_machine")
def test_the_readmes_commands_work_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands():
        assert run(words) == 0, words
        out, err = capsys.readouterr()
        assert "error" not in err, words
        if words[0] == "predict":
            assert "red" in out.splitlines()[0]
    (program,) = blocks("python")
    exec(program, {})
    assert capsys.readouterr().out == "red\n"


SUBCOMMANDS = [
    ["models", "pull"],
    ["models", "rollback"],
    *(["features", name] for name in ("stats", "extract", "prune")),
]


def test_every_option_the_readme_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    helps = ""
    words_of_all = (["train"], ["check"], ["predict"], ["explain"], ["inspect"], ["report"], ["serve"], ["demo"])
    for words in (*words_of_all, *SUBCOMMANDS):
        assert run([*words, "--help"]) == 0
        helps += capsys.readouterr().out
    outside = {"--model_base_path", "--logdir", "--debug"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", README)) - outside <= set(re.findall(r"--[a-z][a-z-]+", helps))


def test_the_map_of_the_code_names_files_that_exist() -> None:
    root = Path(__file__).parents[2]
    code_map = README.split("## Map of the code")[1].split("```")[1]
    room = Path()
    for line in code_map.splitlines():
        if line and not line.startswith(" "):
            room = root / line.split()[0]
            assert room.exists(), room
        for name in re.findall(r"[a-z_0-9]+\.py", line):
            assert (room / name).is_file(), f"{room}/{name}"
