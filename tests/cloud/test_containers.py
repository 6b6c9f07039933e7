"""The Dockerfiles, as far as they can be seen without building them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.stack import ROOT

DOCKERFILES = ["train_job/Dockerfile", "inference_lambda/Dockerfile"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_linter_of_dockerfiles_finds_nothing(name: str) -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([linter, "--no-color", str(ROOT / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_context_holds_what_is_installed_and_nothing_else() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert patterns[0] == "*"
    allowed = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages
    assert allowed == {"pyproject.toml", "README.md", *re.findall(r'"(\w+)"', packages[1])}


def test_the_training_image_runs_as_the_user_of_the_template_and_hears_sigterm() -> None:
    text = (ROOT / "train_job" / "Dockerfile").read_text()
    user = re.search(r"^USER (.+)$", text, re.MULTILINE)
    assert user
    assert (ROOT / "template.yaml").read_text().count(f'User: "{user[1]}"') == 2
    assert 'ENTRYPOINT ["transferlite"]' in text
    assert 'VOLUME ["/tmp"]' in text  # or what is mounted over it belongs to root, on Fargate


def test_the_function_s_image_names_its_handler() -> None:
    text = (ROOT / "inference_lambda" / "Dockerfile").read_text()
    assert 'CMD ["inference_lambda.handler.lambda_handler"]' in text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_base_image_is_of_a_registry_that_the_user_did_not_choose(name: str) -> None:
    images = re.findall(r"^ARG BASE=(.*)$", (ROOT / name).read_text(), re.MULTILINE)
    assert len(images) == 1
    assert "." not in images[0].split("/")[0] or "/" not in images[0]
