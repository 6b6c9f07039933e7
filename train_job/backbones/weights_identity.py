"""Identify a backbone's weights by where they come from, so that a known backbone need not be built."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train_job.backbones.catalog import Backbone
from transferlite.errors import NotFoundError
from transferlite.storage.locations import open_store, split_uri


def weights_identity(backbone: Backbone, weights: str, seed: int) -> dict[str, Any]:
    """Describe all that the weights of a backbone depend on, as JSON values; equal sources give equal weights.

    Args:
        backbone: entry of the table.
        weights: value of ``--weights``.
        seed: seed of random weights.

    Raises:
        NotFoundError: the weights file does not exist.
    """
    source: dict[str, Any] = {"backbone": backbone.name, "keras": version("keras")}
    if weights in {"default", "imagenet"}:
        return source | {"weights": "imagenet"}
    if weights == "none":
        return source | {"weights": "none", "seed": seed}
    if "://" in weights:
        root, key = split_uri(weights)
        return source | {"weights": weights, "stamp": open_store(root).head(key).stamp}
    path = Path(weights).expanduser()
    if not path.is_file():
        raise NotFoundError("there is no such weights file", where=str(path))
    with path.open("rb") as file:
        return source | {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
