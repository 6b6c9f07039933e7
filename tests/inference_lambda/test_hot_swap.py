"""The channel changes while requests come in: TRANSFERLITE_TEST_REQUESTS of them, by default 150."""

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
from tests.inference_lambda.serving import Served, serving
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
    """Versions whose labels bear their id, so that an answer shows who made it, and one whose file is another's."""
    opened = Registry.open(str(tmp_path / "registry"))
    manifest = read_manifest(trained.bundle)
    variants = {"float32": manifest.variants["float32"]}
    for model_id in (*VERSIONS, BROKEN):
        labels = tuple(f"{label} of {model_id}" for label in manifest.labels)
        files = manifest.serving_files(["float32"])
        opened.publish(
            trained.bundle, replace(manifest, model_id=model_id, labels=labels, files=files, variants=variants)
        )
    wrong = trained.bundle / "int8.tflite"  # a sound file with its own sha256, which answers otherwise
    path = f"models/{BROKEN}/float32.tflite"
    opened.store.upload(path, wrong)
    broken = opened.manifest(BROKEN)
    files = {**broken.files, "float32.tflite": FileInfo(sha256_of(wrong), wrong.stat().st_size)}
    opened.store.put(f"models/{BROKEN}/manifest.json", replace(broken, files=files).to_json())
    opened.promote("one", "production")
    return opened


@dataclass(frozen=True)
class Answer:
    """What became of one request: its status, the version named, the label, whether that is right, the seconds."""

    status: int
    model_id: str
    right: bool
    seconds: float


def ask(served: Served, number: int) -> Answer:
    """Ask for the label of one of forty pictures."""
    colour = ("red", "blue")[number % 2]
    began = time.monotonic()
    status, _, content = served.ask("POST", "/predict", jpeg(colour, number % 20))
    seconds = time.monotonic() - began
    answer = json.loads(content)
    model_id = answer.get("model_id", "")
    return Answer(status, model_id, answer.get("label") == f"{colour} of {model_id}", seconds)


def until(happens: Callable[[], bool]) -> None:
    """Wait for something that comes for sure, or fail after a minute."""
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_request_fails_while_the_channel_changes_and_each_answer_names_who_made_it(
    registry: Registry, tmp_path: Path
) -> None:
    answers: list[Answer] = []
    enough = threading.Event()
    numbers = itertools.count()

    def ask_on() -> None:
        while not enough.is_set():
            answers.append(ask(served, next(numbers)))

    def named() -> str:
        return str(json.loads(served.ask("GET", "/health")[2])["model_id"])

    def noticed(model_id: str) -> bool:
        return "model-refused" in served.log.read_text() if model_id == BROKEN else named() == model_id

    def answered(count: int) -> bool:
        return len(answers) >= count

    with serving(tmp_path / "serve", "--registry", registry.store.uri, "--refresh", "0.02") as served:
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask_on) for _ in range(4)]
            try:
                for done, model_id in enumerate(CHANGES, 1):
                    registry.promote(model_id, "production")
                    until(partial(noticed, model_id))
                    until(partial(answered, done * REQUESTS // len(CHANGES)))
            finally:
                enough.set()
            for one in asking:
                one.result()
        registry.rollback("production")
        time.sleep(0.02)
        assert named() == "one"
        refused = [line for line in served.log.read_text().splitlines() if "model-refused" in line]
    assert {(one.status, one.right) for one in answers} == {(200, True)}
    versions = Counter(one.model_id for one in answers)
    assert set(versions) == set(VERSIONS)
    assert len(refused) == 1
    assert f'"{BROKEN}"' in refused[0]
    took = sorted(one.seconds for one in answers)
    print(f"{len(answers)} requests, {dict(versions)}, median {took[len(took) // 2]:.3f} s, longest {took[-1]:.3f} s")
