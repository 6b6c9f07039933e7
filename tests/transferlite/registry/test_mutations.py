"""Bundles that were damaged, exchanged, forged or shown again: refused with the reason, and the old model serves on."""

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
"""How many; the full number is 200."""


@pytest.fixture(scope="module")
def objects(trained: Trained) -> Objects:
    return published(trained)


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.pem"
    path.write_text(ed25519().public_keys.to_pem())
    return str(path)


def refusal(work: Callable[[], object]) -> str:
    """Why a bundle was not taken; nothing if it was."""
    try:
        work()
    except (BundleError, NotFoundError) as error:
        return str(error)
    return ""


def test_every_mutated_bundle_is_refused_and_the_device_serves_on(objects: Objects, key: str, tmp_path: Path) -> None:
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
        accident = mutated(objects, number)
        shutil.rmtree(device / "next", ignore_errors=True)  # else it has what arrived undamaged the time before
        reason = refusal(
            partial(install_current, trusting(store_of(accident.objects)), "production", device, ["int8"], prove)
        )
        assert re.search(accident.reason, reason), f"{number}, {accident.kind}: {reason}"
        assert find_bundle(device).name == "good", accident.kind
        np.testing.assert_array_equal(serving.probabilities(photo), expected)
        if number % 10 == 0:
            np.testing.assert_array_equal(Predictor.load(device, "int8", 1, key).probabilities(photo), expected)
    assert install_current(trusting(store_of(objects)), "production", device, ["int8"], prove).model_id == "next"


def test_every_bundle_that_is_mutated_on_the_device_is_not_loaded(objects: Objects, key: str, tmp_path: Path) -> None:
    install_current(trusting(store_of(objects)), "production", tmp_path)
    bundle = find_bundle(tmp_path)
    whole = {path: path.read_bytes() for path in bundle.iterdir()}
    for number in range(COUNT):
        accident = mutated(objects, number)
        found = {bundle / k.removeprefix("models/next/"): v for k, v in accident.objects.items() if "models/next/" in k}
        if found == whole or "pointer" in accident.kind:
            continue  # the pointer was altered, which is told where it comes from
        for path in whole:
            path.unlink(missing_ok=True)
        for path, content in found.items():
            path.write_bytes(content)
        assert refusal(partial(Predictor.load, bundle, "int8", 1, key)), f"{number}, {accident.kind}"
    for path, content in whole.items():
        path.write_bytes(content)
    assert Predictor.load(bundle, "int8", 1, key)(jpeg("red", 50)).label == "red"
