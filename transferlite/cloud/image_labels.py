"""Read the labels of a training image in ECR, so that a deployment refuses GPU machines for an image without CUDA."""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from transferlite.cloud.image_digests import ECR_IMAGE
from transferlite.cloud.stack import client, translate_aws_errors
from transferlite.errors import InputError, TransferLiteError

EXTRA_LABEL, BASE_LABEL = "transferlite.extra", "transferlite.base"
"""Labels that train_job/Dockerfile sets: its build arguments EXTRA and BASE."""
_MANIFESTS = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
]
_SECONDS = 30


def check_gpu_image(parameters: Mapping[str, str]) -> None:
    """Check that a stack with GPU machines has a training image with CUDA. An image without labels passes.

    Raises:
        InputError: the image was built for CPUs.
    """
    uri = parameters.get("TrainImage", "")
    if parameters.get("Compute") != "gpu" or not ECR_IMAGE.fullmatch(uri):
        return
    labels = _image_labels(uri)
    has_plain_base = "python" in labels.get(BASE_LABEL, "").rpartition("/")[2]  # another base may bring CUDA itself
    if labels.get(EXTRA_LABEL) == "plan" or (labels.get(EXTRA_LABEL) == "train" and has_plain_base):
        hint = "build it with --build-arg EXTRA=train-gpu, or deploy with --set Compute=cpu"
        raise InputError(f"was built with EXTRA={labels[EXTRA_LABEL]}, which has no CUDA", where=uri, hint=hint)


def _image_labels(uri: str) -> Mapping[str, str]:
    """Return an image's labels; empty if its configuration cannot be read."""
    match = ECR_IMAGE.fullmatch(uri)
    assert match is not None
    place = {"registryId": match[1], "repositoryName": match[3]}
    ecr = client("ecr", match[2])
    try:
        with translate_aws_errors(uri):
            manifest = _manifest(ecr, place, _image_id(match[4], match[5]))
            if "manifests" in manifest:  # an image for several processors
                manifest = _manifest(ecr, place, {"imageDigest": manifest["manifests"][0]["digest"]})
            digest = manifest["config"]["digest"]
            url = ecr.get_download_url_for_layer(**place, layerDigest=digest)["downloadUrl"]
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            configuration = json.load(response)
    except (TransferLiteError, OSError, LookupError, ValueError):
        return {}  # no permission, or an image of another kind: the deployment itself tells
    return dict(configuration.get("config", {}).get("Labels") or {})


def _image_id(tag: str | None, digest: str | None) -> dict[str, str]:
    return {"imageDigest": digest.removeprefix("@")} if digest else {"imageTag": tag or "latest"}


def _manifest(ecr: Any, place: Mapping[str, str], image: Mapping[str, str]) -> Any:
    found = ecr.batch_get_image(**place, imageIds=[image], acceptedMediaTypes=_MANIFESTS)["images"]
    return json.loads(found[0]["imageManifest"])
