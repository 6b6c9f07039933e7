"""Fixtures shared by all tests. The first test that trains imports TensorFlow."""

import logging
import os
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from moto.server import ThreadedMotoServer

from tests.installed import ROOT, Install, install, pip
from tests.pictures import write_folders
from transferlite.storage.s3_boto3 import s3_client

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BUCKET = "test-bucket"
_QUIET_BROWSER = [
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    )
]


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's AWS settings, keys and model cache from the tests."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "TRANSFERLITE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PUBLIC_KEY", "SIGNING_KEY"):
        monkeypatch.delenv(f"TRANSFERLITE_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("TRANSFERLITE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _cache_boto_loader() -> Iterator[None]:
    """Read boto's data files once: creating an S3 client, as many tests do, then takes a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Run moto's S3 server on loopback: the HTTP client that fetches photos cannot be mocked."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Reset S3 to the empty bucket ``test-bucket``; return the boto3 client."""
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    s3_client.cache_clear()
    s3_client().create_bucket(Bucket=BUCKET)
    yield s3_client()
    s3_client.cache_clear()


@dataclass(frozen=True)
class Trained:
    """A model trained once per test run: 12 blue and 12 red pictures, EfficientNet-Lite0 at 64x64."""

    photos: Path
    registry: Path
    result: Any

    @property
    def bundle(self) -> Path:
        return self.registry / "models" / str(self.result.manifest.model_id)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from train_job.options import TrainOptions
    from train_job.pipeline.train_job import train
    from train_job.progress import Reporter

    root = tmp_path_factory.mktemp("trained")
    photos = write_folders(root / "photos")
    options = TrainOptions(images=str(photos), registry=str(root / "registry"), image_size=64, epochs=10)
    return Trained(photos, root / "registry", train(options, Reporter()))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    if pip("download", "--no-deps", "click", "-d", folder):
        pytest.skip("no package index can be reached")
    assert pip("wheel", "--no-deps", ROOT, "-w", folder / "built") == 0
    (built,) = (folder / "built").iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """The wheel with every package that the extras require."""
    return install(wheel, tmp_path_factory.mktemp("installed"), with_all_packages=True)


@pytest.fixture(scope="session")
def photo_sets() -> Path:
    """Return the folder of real photos (``catsdogs``, ``flowers``, ``hard_inputs``); skip the test without it."""
    folder = Path(os.environ.get("TRANSFERLITE_TEST_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    if not (folder / "catsdogs").is_dir():
        pytest.skip(f"no real photos at {folder} (set TRANSFERLITE_TEST_DATA)")
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium; tests that need one skip on a machine without it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=_QUIET_BROWSER)
        yield browser
        browser.close()
