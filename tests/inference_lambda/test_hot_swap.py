"""The channel changes while requests arrive. ``TRANSFERLITE_TEST_REQUESTS`` sets their number (default 150)."""

import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Trained
from tests.inference_lambda.serving import RunningServer, serving
from tests.pictures import jpeg
from transferlite.registry.local_bundle import read_manifest, sha256_of
from transferlite.registry.manifest import FileInfo
from transferlite.registry.open_registry import Registry

REQUESTS = int(os.environ.get("TRANSFERLITE_TEST_REQUESTS", "150"))
VERSIONS = ("one", "two", "three")
BROKEN = "broken"
CHANGES = ("two", "three", "one", BROKEN, "two", "one", "three", "two", "one", "two")


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    """Versions whose labels contain their id, so that predictions show it, and one version with a wrong model file."""
    opened = Registry.open(str(tmp_path / "registry"))
    manifest = read_manifest(trained.bundle)
    variants = {"float32": manifest.variants["float32"]}
    for model_id in (*VERSIONS, BROKEN):
        labels = tuple(f"{label} of {model_id}" for label in manifest.labels)
        files = manifest.serving_files(["float32"])
        opened.publish(
            trained.bundle, replace(manifest, model_id=model_id, labels=labels, files=files, variants=variants)
        )
    wrong = (
        trained.bundle / "int8.tflite"
    )  # a valid file with its own sha256, but with other predictions: the self-test must fail
    path = f"models/{BROKEN}/float32.tflite"
    opened.store.upload(path, wrong)
    broken = opened.manifest(BROKEN)
    files = {**broken.files, "float32.tflite": FileInfo(sha256_of(wrong), wrong.stat().st_size)}
    opened.store.put(f"models/{BROKEN}/manifest.json", replace(broken, files=files).to_json())
    opened.promote("one", "production")
    return opened


@dataclass(frozen=True)
class PredictResult:
    """Result of one request: status, model version, whether the label is correct, seconds."""

    status: int
    model_id: str
    correct: bool
    seconds: float


def request_label(served: RunningServer, number: int) -> PredictResult:
    """Request the label of one of 40 photos."""
    colour = ("red", "blue")[number % 2]
    began = time.monotonic()
    status, _, content = served.request("POST", "/predict", jpeg(colour, number % 20))
    seconds = time.monotonic() - began
    prediction = json.loads(content)
    model_id = prediction.get("model_id", "")
    return PredictResult(status, model_id, prediction.get("label") == f"{colour} of {model_id}", seconds)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, or fail after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_request_fails_while_the_channel_changes(registry: Registry, tmp_path: Path) -> None:
    results: list[PredictResult] = []
    enough = threading.Event()
    numbers = itertools.count()

    def send_requests() -> None:
        while not enough.is_set():
            results.append(request_label(served, next(numbers)))

    def current_version() -> str:
        return str(json.loads(served.request("GET", "/model")[2])["model_id"])

    def noticed(model_id: str) -> bool:
        return "model-refused" in served.log.read_text() if model_id == BROKEN else current_version() == model_id

    def answered(count: int) -> bool:
        return len(results) >= count

    with serving(tmp_path / "serve", "--registry", registry.store.uri, "--refresh", "0.02") as served:
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(send_requests) for _ in range(4)]
            try:
                for done, model_id in enumerate(CHANGES, 1):
                    registry.promote(model_id, "production")
                    wait_until(partial(noticed, model_id))
                    wait_until(partial(answered, done * REQUESTS // len(CHANGES)))
            finally:
                enough.set()
            for future in futures:
                future.result()
        registry.rollback("production")
        time.sleep(0.02)
        assert current_version() == "one"
        refused = [line for line in served.log.read_text().splitlines() if "model-refused" in line]
    assert {(result.status, result.correct) for result in results} == {(200, True)}
    versions = Counter(result.model_id for result in results)
    assert set(versions) == set(VERSIONS)
    assert len(refused) == 1
    assert f'"{BROKEN}"' in refused[0]
    took = sorted(result.seconds for result in results)
    print(f"{len(results)} requests, {dict(versions)}, median {took[len(took) // 2]:.3f} s, longest {took[-1]:.3f} s")
