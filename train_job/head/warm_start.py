"""The head of an earlier version, kept beside its files, as the start of the next training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train_job.head.checkpoint import Arrays, from_npz
from transferlite.errors import InputError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

HEAD_NPZ = "training/head.npz"


def head_arrays(head: Any) -> Arrays:
    """The head's weights by name, as :data:`HEAD_NPZ` keeps them: a kernel and a bias of each of its two layers."""
    return {
        f"{layer.name}_{name}": np.array(value)
        for layer in head.layers
        for name, value in (("kernel", layer.kernel), ("bias", layer.bias))
    }


def warm_start(
    head: Any, labels: Sequence[str], base_sha256: str, manifest: Manifest | None, registry: Registry
) -> str:
    """Start ``head`` from that of the channel's version ``manifest``; returns a line that says so.

    Raises:
        InputError: that head is of another shape, or on another base.
    """
    if manifest is None:
        return "warm start: the channel has no version yet"
    if manifest.backbone.get("weights_sha256") != base_sha256:
        raise InputError("the channel's head is on another base", where="--warm-start", hint="leave --warm-start out")
    try:
        old = from_npz(registry.store.get(f"models/{manifest.model_id}/{HEAD_NPZ}").data)
    except (NotFoundError, ValueError) as error:
        raise InputError(f"{manifest.model_id} has no head to start from ({error})", where="--warm-start") from error
    start_from(head, labels, old, manifest.labels)
    return f"warm start from {manifest.model_id}"


def start_from(head: Any, labels: Sequence[str], old: Arrays, old_labels: Sequence[str]) -> None:
    """Set the head to the weights ``old``; a class that both know keeps its output, a new one its random start.

    Raises:
        InputError: the old head is of another shape.
    """
    new = head_arrays(head)
    if old.keys() != new.keys() or old["hidden_kernel"].shape != new["hidden_kernel"].shape:
        raise InputError("the channel's head has another shape", where="--warm-start", hint="leave --warm-start out")
    kept = [label for label in labels if label in old_labels]
    now, then = [labels.index(label) for label in kept], [old_labels.index(label) for label in kept]
    new["probabilities_kernel"][:, now] = old["probabilities_kernel"][:, then]
    new["probabilities_bias"][now] = old["probabilities_bias"][then]
    head.set_weights([old["hidden_kernel"], old["hidden_bias"], *list(new.values())[2:]])
