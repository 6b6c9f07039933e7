"""Whole ``train`` processes that are stopped or killed and started again: they end as one that was left alone.

``TRANSFERLITE_TEST_KILLS=10`` tries ten random moments with each signal instead of one.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import write_folders
from transferlite.registry.open_registry import Registry

PHOTOS = 120
KILLS = int(os.environ.get("TRANSFERLITE_TEST_KILLS", "1"))


def start(photos: Path, registry: Path, attempt: int = 1) -> subprocess.Popen[str]:
    words = [sys.executable, "-u", "-m", "transferlite", "train", "--images", str(photos), "--registry", str(registry)]
    words += ["--backbone", "mobilenet_v3_small", "--weights", "none", "--image-size", "64", "--epochs", "300"]
    words += ["--hidden-units", "256", "--keep-best"]
    environment = os.environ | {"AWS_BATCH_JOB_ID": "job-1", "AWS_BATCH_JOB_ATTEMPT": str(attempt)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@dataclass(frozen=True)
class Outcome:
    """What has to be the same: the head's weights to the bit, and every split's scores; and what the features cost."""

    head: dict[str, bytes]
    metrics: Any
    forwarded: int

    @classmethod
    def of(cls, registry: Path) -> "Outcome":
        opened = Registry.open(str(registry))
        manifest = opened.manifest(opened.resolve("production"))
        training = registry / "models" / manifest.model_id / "training"
        with np.load(training / "head.npz") as file:
            head = {name: file[name].tobytes() for name in file.files}
        run = json.loads((training / "run.json").read_text())
        return cls(head, manifest.metrics, run["features"]["forwarded"])


@dataclass(frozen=True)
class Alone:
    photos: Path
    outcome: Outcome
    seconds: float


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    root = tmp_path_factory.mktemp("alone")
    photos = write_folders(root / "photos", PHOTOS // 2)
    started = time.monotonic()
    job = start(photos, root / "registry")
    said, _ = job.communicate()
    assert job.returncode == 0, said
    return Alone(photos, Outcome.of(root / "registry"), time.monotonic() - started)


def rows_kept(registry: Path) -> int:
    from train_job.store.feature_store import FeatureStore

    store = FeatureStore.open(str(registry / "features"))
    return sum(len(store.keys(space)) for space in store.spaces() if space.layer == "pool")


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_was_ended_at_any_moment_goes_on_to_the_same_model(
    kind: signal.Signals, number: int, alone: Alone, tmp_path: Path
) -> None:
    moments = random.Random(f"{kind} {number}")
    for _ in range(5):  # a job that ended before its moment is begun anew
        shutil.rmtree(tmp_path / "registry", ignore_errors=True)
        job = start(alone.photos, tmp_path / "registry")
        time.sleep(moments.uniform(0.2, 0.95) * alone.seconds)
        job.send_signal(kind)
        said, _ = job.communicate()
        if job.returncode in {143, -kind}:
            break
    else:
        pytest.fail(f"the job always ended before its moment: {said}")
    if job.returncode == 143:
        assert said.endswith("stopped by SIGTERM; run the same command again: it goes on from here\n"), said
    kept = rows_kept(tmp_path / "registry") if (tmp_path / "registry").exists() else 0
    done = (tmp_path / "registry" / "channels" / "production.json").exists()  # it was ended after its last step

    again = start(alone.photos, tmp_path / "registry", attempt=2)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert ("nothing is left to do" if done else "attempt 2: going on from what is kept") in said
    outcome = Outcome.of(tmp_path / "registry")
    assert outcome.head == alone.outcome.head
    assert outcome.metrics == alone.outcome.metrics
    assert outcome.forwarded == PHOTOS - (0 if done else kept)
    assert not list((tmp_path / "registry" / "checkpoints").glob("*.npz"))
