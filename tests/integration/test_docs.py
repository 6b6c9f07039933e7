"""Commands, options and files that the README and the documentation mention exist and work."""

import dataclasses
import importlib.util
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import Trained
from tests.pictures import jpeg, write_folders
from tests.test_architecture import FLOORS
from transferlite import Predictor
from transferlite.cli.main import run, transferlite
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language, also within lists."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Arguments of each ``$ transferlite`` line, in order."""
    lines = [line.strip() for block in blocks(text, "console") for line in block.splitlines()]
    assert all(line.startswith("$ transferlite ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


@pytest.fixture
def users_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Any) -> None:
    """A working directory with ``photos/``, ``photo.jpg``, the seed's files, and the buckets of the documentation."""
    write_folders(tmp_path / "photos", 10)
    (tmp_path / "photo.jpg").write_bytes(jpeg("red", 100))
    monkeypatch.chdir(tmp_path)
    for name in ("my-photos", "my-models", "my-reports"):
        s3_client().create_bucket(Bucket=name)
    rows = ["File Name,Label"]
    for path in Path("photos").rglob("*.jpg"):
        s3_client().put_object(Bucket="my-photos", Key=f"train_img/{path.name}", Body=path.read_bytes())
        rows.append(f"{path.name},{path.parent.name}")
        Path("train_img").mkdir(exist_ok=True)
        shutil.copy(path, Path("train_img"))
    Path("label-train.csv").write_text("\n".join(rows))
    s3_client().put_object(Bucket="my-photos", Key="label-train.csv", Body="\n".join(rows).encode())
    s3_client().put_object(Bucket="my-photos", Key="new/photo.jpg", Body=jpeg("red", 100))


@pytest.fixture
def with_models(users_machine: None, trained: Trained) -> None:
    """The same after two trainings: the channel points to the second version, in ``models/`` and in ``my-models``."""
    shutil.copytree(trained.registry, "models")
    registry = Registry.open("models")
    (first,) = registry.versions()
    second = dataclasses.replace(first, model_id=f"{first.model_id}b")
    shutil.copytree(f"models/models/{first.model_id}", "second")
    Path("second", MANIFEST).write_bytes(second.to_json())
    registry.publish(Path("second"), second)
    registry.promote(second.model_id, "production")
    for path in (path for path in Path("models").rglob("*") if path.is_file()):
        s3_client().upload_file(str(path), "my-models", path.relative_to("models").as_posix())
    registry.pull(second.model_id, Path("pulled"))
    for name in ("float32.tflite", "labels.txt"):
        shutil.copy(Path("pulled", second.model_id, name), name)
    write_float_model(Path("mobilenet.tflite"), len(second.labels))
    assert run(["models", "pull", "--registry", "models", "--dest", "device"]) == 0


def write_float_model(path: Path, classes: int) -> None:
    """Write a classifier of another maker: its input is float, so that it needs a normalisation."""
    import tensorflow as tf

    kernel = tf.ones((3, classes))
    network = tf.function(lambda image: tf.nn.softmax(tf.reduce_mean(image, axis=(1, 2)) @ kernel))
    graph = network.get_concrete_function(tf.TensorSpec((1, 64, 64, 3), tf.float32))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())


@pytest.mark.usefixtures("users_machine")
def test_the_commands_of_the_readme_work_in_order(capsys: pytest.CaptureFixture[str]) -> None:
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
@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if commands(text) or blocks(text, "python")])
def test_the_commands_and_programs_of_a_page_work_in_order(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(PAGES[page]):
        assert run(words) == 0, (words, capsys.readouterr().err)
    for program in blocks(PAGES[page], "python"):
        if "mediapipe" not in program:  # an install of its own: test_mediapipe.py
            exec(program, {"Predictor": Predictor})


NOT_RUN = {
    "transferlite serve": "runs until it is ended: test_serve.py",
    "transferlite predict inbox --watch": "runs until it is ended: test_watch.py",
    "transferlite predict --camera": "takes a camera: test_camera.py",
    "transferlite export web": "takes npm: test_site.py",
    "transferlite features prune": "takes photos that are gone: test_features_cli.py",
    "transferlite drift": "takes a week of records: test_drift.py",
    "transferlite train … --signing-key awskms": "takes a key in KMS: test_kms.py",
    "transferlite keys show awskms": "takes a key in KMS: test_kms.py",
    "transferlite train --labels catsdogs": "takes the real photos and minutes: test_real_photos.py",
    "transferlite train --images flowers": "takes the real photos and minutes: test_real_photos.py",
    "transferlite train --images photos --registry models --reject-unlike": "takes a training: test_train_job.py",
    "transferlite models promote MODEL_ID": "takes an id: test_models.py",
    "transferlite publish --pretrained": "exports a network: train_job/pretrained/test_publish.py",
    "transferlite package": "takes a package index: test_device_folder.py, test_lambda_zip.py",
    "transferlite cloud": "takes a stack: test_cloud.py in moto, make test-deploy in an emulator",
    "DATA=$(transferlite cloud": "takes a stack: make test-deploy",
    "make": "the targets are looked up below; each makes an environment of gigabytes",
    "pip install": "the extras are looked up below; test_installs.py installs some",
    "python3 -m venv": "makes an environment",
    "python -m": "the modules are looked up below; benchmarks take minutes",
    "python -c": "prints a folder: test_schemas.py reads the schemas in it",
    "model_signing": "a tool of others: test_model_signing.py runs it",
    "aws": "the AWS CLI is no dependency: make test-deploy",
    "sam": "the SAM CLI is no dependency: make test-deploy runs its deploy command",
    "curl": "takes a server: test_serve.py, and TensorFlow Serving, which is not installed",
    "jq": "a program that is no dependency; tried by hand",
    "python3.11 -m venv": "another Python: test_other_python.py",
    "legacy/bin/pip": "another Python: test_other_python.py",
    "debootstrap": "another processor's Debian: qemu; the row's code is tested by test_compatibility.py",
    "for deb in ROOT": "as debootstrap",
    "export": "sets a variable for a shell",
}
"""Commands of ``sh`` blocks that these tests do not run, by their first words, with the reason."""

NO_COMMANDS = {"text", "json", "sql", "ini", "dockerfile", "hcl"}


def not_run(text: str) -> list[str]:
    """The commands of the ``sh`` blocks, without comments and line breaks."""
    joined = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    return [line for line in (re.sub(r"\s+# .*|^# .*", "", line).strip() for line in joined.splitlines()) if line]


def test_every_command_is_run_or_has_a_reason_why_not() -> None:
    used = set()
    for page, text in {"README.md": README, **PAGES}.items():
        languages = re.findall(r"^ *```([^\n]*)\n.*?^ *```$", text, re.MULTILINE | re.DOTALL)
        assert set(languages) <= {"console", "python", "sh"} | NO_COMMANDS, page
        for line in not_run(text):
            found = {begins for begins in NOT_RUN if line.startswith(begins)}
            assert found, (page, line)
            used |= found
    assert used == set(NOT_RUN)


def test_commands_that_are_not_run_use_existing_targets_extras_and_options() -> None:
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in (line for text in (README, *PAGES.values()) for line in not_run(text)):
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        if words[:2] == ["pip", "install"] and words[2].startswith(".["):
            assert set(words[2][2:-1].split(",")) <= set(extras), line
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), line
        if words[0] == "transferlite":
            assert_exists(words[1:])


def assert_exists(words: list[str]) -> None:
    """Check that a command line uses existing commands and options."""
    command: click.Command = transferlite
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, words
        command = found
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, words


def _options(command: click.Command, context: click.Context) -> set[str]:
    """Every option of a command and of its subcommands."""
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= _options(below, context)
    return found


ELSEWHERE = {"--model_base_path", "--logdir", "--build-arg", "--guided", "--image-repository", "--capabilities"}
ELSEWHERE |= {"--resolve-s"}
ELSEWHERE |= {"--debug", "--help", "--quick", "--photos", "--signature", "--public_key"}
"""Options of TensorFlow Serving, TensorBoard, Docker, SAM, model_signing, the console script and the benchmarks."""

OTHERS_COMMAND = re.compile(r"\b(aws|sam|debootstrap|docker|pip|podman|make|npm|curl|openssl|ssh|git)\b|python -m")


def test_every_mentioned_option_exists() -> None:
    known = _options(transferlite, click.Context(transferlite)) | ELSEWHERE
    for page, text in {"README.md": README, **PAGES}.items():
        prose = "\n".join(line for line in text.replace("\\\n", " ").splitlines() if not OTHERS_COMMAND.search(line))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", prose))
        assert named <= known, (page, named - known)


def test_the_architecture_page_names_files_that_exist_and_every_sub_package() -> None:
    page = PAGES["docs/architecture.md"]
    named = set(re.findall(r"`((?:[\w.]+/)+(?:[\w.]+\.\w+)?)`", page))
    assert len(named) > 50
    assert not {name for name in named if not (ROOT / name).exists()}
    drawing = (ROOT / "docs" / "img" / "rooms.svg").read_text()
    for room, floors in FLOORS.items():
        for folder in (floor.replace(".", "/") for floor in floors if (ROOT / room / floor.replace(".", "/")).is_dir()):
            assert f"`{room}/{folder}`" in page
            assert f">{folder.split('/')[0]}<" in drawing


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    assert sorted(f"docs/{name}" for name in re.findall(r": (\S+\.md)", navigation)) == sorted(PAGES)
