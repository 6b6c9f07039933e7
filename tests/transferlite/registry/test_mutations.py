"""Damaged, exchanged, forged or replayed bundles are refused with a reason, and the old model keeps serving."""

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Trained
from tests.pictures import jpeg
from tests.transferlite.keys import ed25519, trusting
from tests.transferlite.registry.mutations import KINDS, Objects, mutated, published, store_of
from transferlite.edge.install import install_current
from transferlite.errors import BundleError, NotFoundError
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import find_bundle

COUNT = int(os.environ.get("TRANSFERLITE_TEST_MUTATIONS", 3 * len(KINDS)))
"""Mutations to test; the full run has 200."""


@pytest.fixture(scope="module")
def objects(trained: Trained) -> Objects:
    return published(trained)


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    path.write_text(ed25519().public_keys.to_pem())
    return str(path)


def error_of(work: Callable[[], object]) -> str:
    """Run ``work`` and return the error it raised; empty if it raised none."""
    try:
        work()
    except (BundleError, NotFoundError) as error:
        return str(error)
    return ""


def test_every_mutated_bundle_is_refused_and_the_device_keeps_serving(
    objects: Objects, key: str, tmp_path: Path
) -> None:
    device = tmp_path / "device"

    def prove(bundle: Path) -> None:
        Predictor.load(bundle, "int8", 1, key)

    install_current(
        trusting(store_of({**objects, "channels/production.json": objects["replays/good"]})), "production", device
    )
    photo = jpeg("red", 50)
    serving = Predictor.load(device, "int8", 1, key)
    expected = serving.probabilities(photo)
    for number in range(COUNT):
        mutation = mutated(objects, number)
        shutil.rmtree(device / "next", ignore_errors=True)  # else files of the previous attempt would be reused
        reason = error_of(
            partial(install_current, trusting(store_of(mutation.objects)), "production", device, ["int8"], prove)
        )
        assert re.search(mutation.reason, reason), f"{number}, {mutation.kind}: {reason}"
        assert find_bundle(device).name == "good", mutation.kind
        np.testing.assert_array_equal(serving.probabilities(photo), expected)
        if number % 10 == 0:
            np.testing.assert_array_equal(Predictor.load(device, "int8", 1, key).probabilities(photo), expected)
    assert install_current(trusting(store_of(objects)), "production", device, ["int8"], prove).model_id == "next"


def test_a_bundle_mutated_on_the_device_is_not_loaded(objects: Objects, key: str, tmp_path: Path) -> None:
    install_current(trusting(store_of(objects)), "production", tmp_path)
    bundle = find_bundle(tmp_path)
    intact = {path: path.read_bytes() for path in bundle.iterdir()}
    for number in range(COUNT):
        mutation = mutated(objects, number)
        device_files = {
            bundle / k.removeprefix("models/next/"): v for k, v in mutation.objects.items() if "models/next/" in k
        }
        if device_files == intact or "pointer" in mutation.kind:
            continue  # the device does not keep the altered pointer
        for path in intact:
            path.unlink(missing_ok=True)
        for path, content in device_files.items():
            path.write_bytes(content)
        assert error_of(partial(Predictor.load, bundle, "int8", 1, key)), f"{number}, {mutation.kind}"
    for path, content in intact.items():
        path.write_bytes(content)
    assert Predictor.load(bundle, "int8", 1, key)(jpeg("red", 50)).label == "red"
