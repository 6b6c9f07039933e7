"""``train`` processes that are stopped or killed and run again give the same model as an uninterrupted one.

``TRANSFERLITE_TEST_KILLS=10`` tries ten random moments per signal instead of one.
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
    words += ["--hidden-units", "256", "--keep-best", "--promote", "always"]
    environment = os.environ | {"AWS_BATCH_JOB_ID": "job-1", "AWS_BATCH_JOB_ATTEMPT": str(attempt)}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@dataclass(frozen=True)
class Outcome:
    """Result of a job: the head's weights and all scores, which must be equal, and the number of images forwarded."""

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
class Uninterrupted:
    photos: Path
    outcome: Outcome
    seconds: float


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    root = tmp_path_factory.mktemp("uninterrupted")
    photos = write_folders(root / "photos", PHOTOS // 2)
    started = time.monotonic()
    job = start(photos, root / "registry")
    output, _ = job.communicate()
    assert job.returncode == 0, output
    return Uninterrupted(photos, Outcome.of(root / "registry"), time.monotonic() - started)


def count_rows(registry: Path) -> int:
    from train_job.store.feature_store import FeatureStore

    store = FeatureStore.open(str(registry / "features"))
    return sum(len(store.row_index(space)) for space in store.spaces() if space.layer == "pool")


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_killed_at_any_moment_resumes_to_the_same_model(
    kind: signal.Signals, number: int, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    moments = random.Random(f"{kind} {number}")
    for _ in range(5):  # a job that ended before its moment is started again
        shutil.rmtree(tmp_path / "registry", ignore_errors=True)
        job = start(uninterrupted.photos, tmp_path / "registry")
        time.sleep(moments.uniform(0.2, 0.95) * uninterrupted.seconds)
        job.send_signal(kind)
        output, _ = job.communicate()
        if job.returncode in {143, -kind}:
            break
    else:
        pytest.fail(f"the job always ended before its moment: {output}")
    if job.returncode == 143:
        assert output.endswith("stopped by SIGTERM; run the same command again to resume\n"), output
    rows = count_rows(tmp_path / "registry") if (tmp_path / "registry").exists() else 0
    done = (tmp_path / "registry" / "channels" / "production.json").exists()  # it was ended after its last step

    second = start(uninterrupted.photos, tmp_path / "registry", attempt=2)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert ("nothing left to do" if done else "attempt 2: resuming from the saved features and state") in output
    outcome = Outcome.of(tmp_path / "registry")
    assert outcome.head == uninterrupted.outcome.head
    assert outcome.metrics == uninterrupted.outcome.metrics
    assert outcome.forwarded == PHOTOS - (0 if done else rows)
    assert not list((tmp_path / "registry" / "checkpoints").glob("*.npz"))
