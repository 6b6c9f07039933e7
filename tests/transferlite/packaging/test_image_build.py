"""``transferlite cloud build`` with a stand-in for docker: what it runs, and what it puts into the build context."""

import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.template.conftest import simulated_aws
from transferlite.cli.main import run
from transferlite.cloud import stack as cloud_stack

DOCKER = """#!{python}
import json, shutil, sys
with open("{folder}/calls", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if sys.argv[1] == "build":
    shutil.copytree(sys.argv[-1], "{folder}/context", dirs_exist_ok=True)
sys.exit(int("fail" in sys.argv[-1]))
"""
Calls = Callable[[], list[list[str]]]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Function that returns the calls of the stand-in so far, in a moto account."""
    program = tmp_path / "docker"
    program.write_text(DOCKER.format(python=sys.executable, folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with simulated_aws():
        cloud_stack._session.cache_clear()
        yield lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    cloud_stack._session.cache_clear()


def test_both_images_are_built_from_a_wheel_for_the_platform_of_aws(docker: Calls, tmp_path: Path) -> None:
    assert run(["cloud", "build", "--architecture", "arm64", "--signed"]) == 0
    train, inference = docker()
    wheels = list((tmp_path / "context").glob("transferlite-*.whl"))
    assert train[:5] == ["build", "--platform", "linux/amd64", "--tag", "transferlite:train"]
    assert inference[:5] == ["build", "--platform", "linux/arm64", "--tag", "transferlite:inference"]
    for words in (train, inference):
        assert "--provenance=false" in words  # Lambda refuses an index of images
        assert f"SOURCE=./{wheels[0].name}" in words
    assert "EXTRAS=lambda,signed" in inference
    assert (tmp_path / "context" / "Dockerfile").read_text().startswith("# Image of the Lambda function")
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
    assert {"transferlite/cloud/template.yaml", "train_job/training.asl.json", "inference_lambda/handler.py"} <= names


def test_a_push_prints_the_digest(docker: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    ecr = boto3.client("ecr")
    uri = ecr.create_repository(repositoryName="transferlite")["repository"]["repositoryUri"]
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"})
    image = ecr.put_image(repositoryName="transferlite", imageManifest=manifest, imageTag="train")["image"]
    assert run(["cloud", "build", "train", "--push"]) == 0
    assert capsys.readouterr().out == f"--train-image {uri}@{image['imageId']['imageDigest']}\n"
    assert [words[0] for words in docker()] == ["build", "login", "push"]
    assert docker()[1][-1] == uri.partition("/")[0]
    assert docker()[2] == ["push", f"{uri}:train"]


def test_a_missing_engine_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["cloud", "build"]) == 2
    assert "neither docker nor podman is installed; install Docker or Podman" in capsys.readouterr().err
