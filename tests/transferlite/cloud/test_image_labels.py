"""The labels of a training image decide whether it may run on GPU machines."""

import io
import json
import urllib.request
from typing import Any

import botocore.exceptions
import pytest

from tests.template.stack import ROOT
from transferlite.cloud import image_labels
from transferlite.cloud.image_labels import check_gpu_image
from transferlite.errors import InputError

URI = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/team/train"
PYTHON, CUDA = "public.ecr.aws/docker/library/python:3.12-slim-bookworm", "nvcr.io/nvidia/tensorflow:25.02-tf2"


class Ecr:
    """An ECR repository with one image for two processors; records what is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def batch_get_image(self, **request: Any) -> Any:
        assert (request["registryId"], request["repositoryName"]) == ("111122223333", "team/train")
        (image,) = request["imageIds"]
        self.asked.append(image)
        manifest: Any = {"config": {"digest": "sha256:configuration"}}
        if image.get("imageDigest") != "sha256:amd64":
            manifest = {"manifests": [{"digest": "sha256:amd64"}]}
        return {"images": [{"imageManifest": json.dumps(manifest)}]}

    def get_download_url_for_layer(self, **request: Any) -> Any:
        assert request["layerDigest"] == "sha256:configuration"
        return {"downloadUrl": "https://bucket/configuration"}


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Ecr:
    fake = Ecr()
    monkeypatch.setattr(image_labels, "client", lambda service, region: fake)
    return fake


def set_labels(monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None) -> None:
    document = json.dumps({"config": {"Labels": labels}}).encode()
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(document))


@pytest.mark.parametrize(
    ("extra", "base", "refused"),
    [
        ("train", PYTHON, True),
        ("train", "python:3.12-slim-bookworm", True),
        ("plan", PYTHON, True),
        ("train-gpu", PYTHON, False),
        ("train", CUDA, False),  # the base brings TensorFlow with CUDA
    ],
)
@pytest.mark.parametrize("place", [":1", "@sha256:many", ""])
def test_an_image_without_cuda_is_refused_for_gpus(
    ecr: Ecr, monkeypatch: pytest.MonkeyPatch, extra: str, base: str, refused: bool, place: str
) -> None:
    set_labels(monkeypatch, {"transferlite.extra": extra, "transferlite.base": base})
    if refused:
        with pytest.raises(InputError, match=f"EXTRA={extra}, which has no CUDA"):
            check_gpu_image({"TrainImage": URI + place, "Compute": "gpu"})
    else:
        check_gpu_image({"TrainImage": URI + place, "Compute": "gpu"})
    expected: dict[str, str] = {":1": {"imageTag": "1"}, "": {"imageTag": "latest"}}.get(
        place, {"imageDigest": place[1:]}
    )
    assert ecr.asked == [expected, {"imageDigest": "sha256:amd64"}]
    check_gpu_image({"TrainImage": URI + place, "Compute": "cpu"})


@pytest.mark.parametrize("labels", [None, {}])
def test_an_image_without_labels_passes(
    ecr: Ecr, monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None
) -> None:
    set_labels(monkeypatch, labels)
    check_gpu_image({"TrainImage": f"{URI}:1", "Compute": "gpu"})
    assert ecr.asked


def test_an_image_that_may_not_be_read_passes(ecr: Ecr, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(**_: Any) -> Any:
        raise botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "BatchGetImage")

    monkeypatch.setattr(ecr, "batch_get_image", deny)
    check_gpu_image({"TrainImage": f"{URI}:1", "Compute": "gpu"})


def test_the_dockerfile_sets_the_labels() -> None:
    final = (ROOT / "train_job" / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "LABEL transferlite.extra=${EXTRA} transferlite.base=${BASE}" in final
    assert "ARG BASE\nARG EXTRA=train\n" in final
