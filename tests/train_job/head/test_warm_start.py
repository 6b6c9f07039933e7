from typing import Any

import numpy as np
import pytest

from train_job.head.checkpoint import from_npz, to_npz
from transferlite.errors import InputError
from transferlite.images.input_spec import InputSpec
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore


def make(classes: int, seed: int, hidden: int = 5) -> Any:
    import keras

    from train_job.head.model import head_model

    keras.utils.set_random_seed(seed)
    head = head_model(4, hidden, classes)
    head.layers[-1].bias.assign(np.random.default_rng(seed).normal(size=classes))
    return head


def test_known_classes_keep_their_output_and_new_classes_their_random_weights() -> None:
    from train_job.head.warm_start import head_arrays, transfer_weights

    old, new = make(3, 1), make(3, 2)
    before = head_arrays(new)
    transfer_weights(new, ("dog", "owl", "ape"), from_npz(to_npz(head_arrays(old))), ("ape", "cat", "dog"))
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    hidden = np.maximum(rows @ head_arrays(old)["hidden_kernel"] + head_arrays(old)["hidden_bias"], 0)
    expected = hidden @ head_arrays(old)["probabilities_kernel"] + head_arrays(old)["probabilities_bias"]
    actual = hidden @ head_arrays(new)["probabilities_kernel"] + head_arrays(new)["probabilities_bias"]
    np.testing.assert_allclose(actual[:, [0, 2]], expected[:, [2, 0]], rtol=1e-5)
    np.testing.assert_array_equal(head_arrays(new)["probabilities_kernel"][:, 1], before["probabilities_kernel"][:, 1])


def test_a_head_of_another_shape_is_refused() -> None:
    from train_job.head.warm_start import head_arrays, transfer_weights

    with pytest.raises(InputError, match=r"--warm-start.*another shape"):
        transfer_weights(make(2, 1), ("a", "b"), head_arrays(make(2, 1, hidden=6)), ("a", "b"))


def published(head: Any | None) -> tuple[Registry, Manifest]:
    from train_job.head.warm_start import HEAD_NPZ, head_arrays

    registry = Registry(MemoryStore())
    backbone = {"weights_sha256": "aa"}
    manifest = Manifest("m1", "now", ("a", "b"), InputSpec(32, 32), backbone, {}, {}, {}, {}, {}, {})
    if head is not None:
        registry.store.put(f"models/m1/{HEAD_NPZ}", to_npz(head_arrays(head)))
    return registry, manifest


def test_the_head_starts_from_the_channels_version() -> None:
    from train_job.head.warm_start import warm_start

    old, new = make(2, 1), make(2, 2)
    registry, manifest = published(old)
    assert warm_start(new, ("a", "b"), "aa", manifest, registry) == "warm start from m1"
    for expected, actual in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_first_version_of_a_channel_starts_cold() -> None:
    from train_job.head.warm_start import warm_start

    assert warm_start(make(2, 1), ("a", "b"), "aa", None, published(None)[0]).endswith("no version yet")


def test_a_head_on_another_backbone_or_a_missing_head_is_refused() -> None:
    from train_job.head.warm_start import warm_start

    registry, manifest = published(None)
    with pytest.raises(InputError, match="on another backbone"):
        warm_start(make(2, 1), ("a", "b"), "bb", manifest, registry)
    with pytest.raises(InputError, match="m1 has no head to start from"):
        warm_start(make(2, 1), ("a", "b"), "aa", manifest, registry)
