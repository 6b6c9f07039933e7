"""Fixtures that several rooms' tests share. TensorFlow is imported once, by the first test that trains."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from runtime.s3 import s3_client
from tests.pictures import write_folders

BUCKET = "test-bucket"


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's own AWS settings, or leaves a model in their cache."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "TRANSFERLITE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("TRANSFERLITE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bucket() -> Iterator[Any]:
    """moto's S3 inside this process, with an empty bucket ``test-bucket``; the value is its boto3 client."""
    with mock_aws():
        s3_client.cache_clear()
        s3_client().create_bucket(Bucket=BUCKET)
        yield s3_client()
    s3_client.cache_clear()


@dataclass(frozen=True)
class Trained:
    """A model trained once for the whole run: 12 blue and 12 red pictures, EfficientNet-Lite0 at 64x64."""

    photos: Path
    registry: Path
    result: Any

    @property
    def bundle(self) -> Path:
        return self.registry / "models" / str(self.result.manifest.model_id)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from train_job.job import train
    from train_job.options import TrainOptions
    from train_job.progress import Reporter

    root = tmp_path_factory.mktemp("trained")
    photos = write_folders(root / "photos")
    options = TrainOptions(images=str(photos), registry=str(root / "registry"), image_size=64, epochs=10)
    return Trained(photos, root / "registry", train(options, Reporter()))


@pytest.fixture(scope="session")
def photo_sets() -> Path:
    """The real photos (``catsdogs``, ``flowers``, ``hard_inputs``); tests that need them skip where they are not."""
    folder = Path(os.environ.get("TRANSFERLITE_TEST_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    if not (folder / "catsdogs").is_dir():
        pytest.skip(f"no real photos at {folder} (set TRANSFERLITE_TEST_DATA)")
    return folder
