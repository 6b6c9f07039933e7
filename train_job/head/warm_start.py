"""Warm start: begin the next fit with the head of the current version, which is published beside its files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train_job.head.checkpoint import Arrays, from_npz
from transferlite.errors import InputError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

HEAD_NPZ = "training/head.npz"


def head_arrays(head: Any) -> Arrays:
    """The head's weights by name, as in :data:`HEAD_NPZ`: kernel and bias of its two layers."""
    return {
        f"{layer.name}_{name}": np.array(value)
        for layer in head.layers
        for name, value in (("kernel", layer.kernel), ("bias", layer.bias))
    }


def warm_start(
    head: Any, labels: Sequence[str], backbone_sha256: str, manifest: Manifest | None, registry: Registry
) -> str:
    """Copy the head of the channel's version ``manifest`` into ``head``; returns a line for the log.

    Raises:
        InputError: that head is missing, has another shape, or was trained on another backbone.
    """
    if manifest is None:
        return "warm start: the channel has no version yet"
    if manifest.backbone.get("weights_sha256") != backbone_sha256:
        raise InputError(
            "the channel's head was trained on another backbone", where="--warm-start", hint="leave --warm-start out"
        )
    try:
        old = from_npz(registry.store.get(f"models/{manifest.model_id}/{HEAD_NPZ}").data)
    except (NotFoundError, ValueError) as error:
        raise InputError(f"{manifest.model_id} has no head to start from ({error})", where="--warm-start") from error
    transfer_weights(head, labels, old, manifest.labels)
    return f"warm start from {manifest.model_id}"


def transfer_weights(head: Any, labels: Sequence[str], old: Arrays, old_labels: Sequence[str]) -> None:
    """Copy the weights ``old`` into the head: known classes keep their output, new classes their random weights.

    Raises:
        InputError: the old head has another shape.
    """
    new = head_arrays(head)
    if old.keys() != new.keys() or old["hidden_kernel"].shape != new["hidden_kernel"].shape:
        raise InputError("the channel's head has another shape", where="--warm-start", hint="leave --warm-start out")
    shared = [label for label in labels if label in old_labels]
    columns, old_columns = [labels.index(label) for label in shared], [old_labels.index(label) for label in shared]
    new["probabilities_kernel"][:, columns] = old["probabilities_kernel"][:, old_columns]
    new["probabilities_bias"][columns] = old["probabilities_bias"][old_columns]
    head.set_weights([old["hidden_kernel"], old["hidden_bias"], *list(new.values())[2:]])
