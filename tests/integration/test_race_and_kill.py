"""``train`` processes that race or are killed: the channel points to a complete version, or is unchanged."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pictures import jpeg, write_folders
from transferlite import Predictor
from transferlite.packaging.demo import local_s3
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

QUICK = ["--backbone", "mobilenet_v3_small", "--weights", "none", "--image-size", "32", "--epochs", "2"]
QUICK += ["--promote", "always"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "photos", 10)


def start(photos: Path, registry: str) -> subprocess.Popen[str]:
    """Start a ``transferlite train`` process whose output can be read line by line."""
    words = [
        sys.executable,
        "-u",
        "-m",
        "transferlite",
        "train",
        "--images",
        str(photos),
        "--registry",
        registry,
        *QUICK,
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def s3_registry() -> Iterator[str]:
    with local_s3():
        s3_client().create_bucket(Bucket="models")
        yield "s3://models/registry"


def test_two_racing_jobs_both_publish_and_the_channel_points_to_one(photos: Path, s3_registry: str) -> None:
    jobs = [start(photos, s3_registry) for _ in range(2)]
    for job in jobs:
        output, _ = job.communicate()
        assert job.returncode == 0, output
    registry = Registry.open(s3_registry)
    ids = {manifest.model_id for manifest in registry.versions()}
    assert len(ids) == 2
    pointer = registry.channel("production")
    assert {pointer.model_id, *pointer.previous} == ids
    for model_id in ids:
        assert Predictor.from_registry(s3_registry, model_id=model_id)(jpeg("red")).model_id == model_id


@pytest.mark.parametrize("moment", ["loading TensorFlow", "exporting", "gate"])
def test_a_killed_job_leaves_the_channel_unchanged(moment: str, photos: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    (registry / "channels").mkdir(parents=True)
    before = Pointer("old", (), "2026-01-01T00:00:00+00:00").to_json()
    (registry / "channels" / "production.json").write_bytes(before)
    job = start(photos, str(registry))
    assert job.stdout is not None
    output = ""
    for line in job.stdout:
        output += line
        if line.startswith(moment):
            break
    else:
        pytest.fail(f"the moment never came: {output}")
    os.kill(job.pid, signal.SIGKILL)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    assert (registry / "channels" / "production.json").read_bytes() == before
    assert not (registry / "models").exists()
