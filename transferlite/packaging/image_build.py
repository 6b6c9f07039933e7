"""Build the images of training job and function with docker or podman, and push them to ECR."""

import base64
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transferlite.cloud.stack import client, translate_aws_errors
from transferlite.errors import ConflictError, InputError, TransferLiteError
from transferlite.packaging.own_wheel import ROOT, write_wheel

PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
"""Platform of an image by the processor architecture."""

_PACKAGES = ("transferlite", "train_job", "export", "inference_lambda")


@dataclass(frozen=True)
class Image:
    """An image to build: its tag, the folder of its Dockerfile, its platform and build arguments."""

    tag: str
    room: str
    platform: str
    arguments: dict[str, str] = field(default_factory=dict)


def training_image(extra: str) -> Image:
    """Image of the training job; ``extra`` is ``train`` or ``train-gpu``. AWS Batch runs it on x86_64."""
    return Image("train", "train_job", PLATFORMS["x86_64"], {"EXTRA": extra})


def function_image(architecture: str, extras: Sequence[str] = ()) -> Image:
    """Image of the function; ``extras`` adds extras of this package to ``lambda``, such as ``signed``."""
    return Image("inference", "inference_lambda", PLATFORMS[architecture], {"EXTRAS": ",".join(["lambda", *extras])})


def build_image(image: Image, repository: str) -> str:
    """Build an image as ``REPOSITORY:TAG`` from the TransferLite that is installed here; return that name.

    The build context holds a wheel, so that an install builds what a checkout builds.

    Raises:
        InputError: neither docker nor podman is installed.
        TransferLiteError: the build failed; it has printed the reason.
    """
    engine, name = find_engine(), f"{repository}:{image.tag}"
    with tempfile.TemporaryDirectory(prefix="transferlite-") as temporary:
        context = Path(temporary)
        wheel = write_wheel(context, _PACKAGES, python=None)
        shutil.copyfile(ROOT / image.room / "Dockerfile", context / "Dockerfile")
        words = [engine, "build", "--platform", image.platform, "--tag", name]
        words += ["--format=docker"] if Path(engine).name == "podman" else ["--provenance=false"]
        for argument, value in {**image.arguments, "SOURCE": f"./{wheel.name}"}.items():
            words += ["--build-arg", f"{argument}={value}"]
        _run([*words, str(context)], f"build of {name}")
    return name


def push_image(name: str) -> str:
    """Push ``HOST/REPOSITORY:TAG`` to ECR; return it with the digest that ECR gave it."""
    from transferlite.cloud.image_digests import pinned

    engine, host = find_engine(), name.partition("/")[0]
    with translate_aws_errors(f"registry {host}"):
        token = client("ecr", host.split(".")[3]).get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(token["authorizationToken"]).decode().partition(":")
    _run([engine, "login", "--username", user, "--password-stdin", host], f"login to {host}", password)
    _run([engine, "push", name], f"push of {name}")
    return pinned(name)


def repository_uri(name: str) -> str:
    """URI of a repository in ECR, which is created if it is missing."""
    ecr = client("ecr")
    try:
        with translate_aws_errors(f"repository {name}"):
            created = ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
    except ConflictError:
        with translate_aws_errors(f"repository {name}"):
            return str(ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"])
    return str(created["repository"]["repositoryUri"])


def find_engine() -> str:
    """Path of docker or podman. Raises InputError if neither is installed."""
    found = shutil.which("docker") or shutil.which("podman")
    if found is None:
        raise InputError("neither docker nor podman is installed", hint="install Docker or Podman")
    return found


def _run(words: list[str], what: str, text: str | None = None) -> None:
    status = subprocess.run(words, input=text, text=True, check=False).returncode
    if status:
        raise TransferLiteError(f"{what} failed with exit status {status}")
