"""The Dockerfiles, checked without building them."""

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.template import podman
from tests.template.stack import ROOT

LAMBDA_BASE = "public.ecr.aws/lambda/python:3.12"
"""Source: https://docs.aws.amazon.com/lambda/latest/dg/python-image.html#python-image-base"""
DOCKERFILES = ["train_job/Dockerfile", "inference_lambda/Dockerfile"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([linter, "--no-color", str(ROOT / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_context_holds_only_what_is_installed() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert patterns[0] == "*"
    allowed = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages
    assert allowed == {"pyproject.toml", "README.md", "template.yaml", *re.findall(r'"(\w+)"', packages[1])}


def test_the_training_image_runs_as_the_templates_user_and_receives_sigterm() -> None:
    text = (ROOT / "train_job" / "Dockerfile").read_text()
    user = re.search(r"^USER (.+)$", text, re.MULTILINE)
    assert user
    assert (ROOT / "template.yaml").read_text().count(f'User: "{user[1]}"') == 4
    assert 'ENTRYPOINT ["transferlite"]' in text
    assert 'VOLUME ["/tmp"]' in text  # without it, Fargate mounts a volume there that belongs to root


def test_the_function_image_sets_its_handler() -> None:
    text = (ROOT / "inference_lambda" / "Dockerfile").read_text()
    assert 'CMD ["inference_lambda.handler.lambda_handler"]' in text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_base_image_can_be_pulled_as_written(name: str) -> None:
    images = re.findall(r"^ARG BASE=(.*)$", (ROOT / name).read_text(), re.MULTILINE)
    assert images == [{"train_job": "python:3.12-slim-bookworm"}.get(name.split("/", maxsplit=1)[0], LAMBDA_BASE)]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_stage_uses_the_base_image_which_can_be_pinned(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}${DIGEST}"] * 2
    assert re.findall(r"^ARG DIGEST=(.*)$", text, re.MULTILINE) == [""]


def test_container_limits_do_not_exceed_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may not have higher limits than the process that starts it."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    assert podman.limits() == ["--ulimit=nofile=512:512", "--ulimit=nproc=512:512"]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert podman.limits() == ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]


def test_without_root_the_containers_are_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(podman.UnavailableError, match="need root"):
        podman.install_tools()


def test_tools_that_cannot_be_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(podman.UnavailableError, match="podman, runc, debootstrap, catatonit are missing"):
        podman.install_tools()
