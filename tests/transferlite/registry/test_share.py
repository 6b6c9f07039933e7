"""Channels shared by presigned URLs, from S3 (moto on loopback)."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.helpers.s3_server import running_s3
from tests.conftest import BUCKET
from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, forged, owners
from transferlite.cli.main import run
from transferlite.edge.install import install_current
from transferlite.errors import (
    AccessDeniedError,
    InputError,
    NotFoundError,
    UntrustedError,
)
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.registry.share import parse_duration, write_share
from transferlite.storage.https import SharedStore
from transferlite.storage.s3_boto3 import S3Store, s3_client


@pytest.fixture
def registry(bucket: object, tmp_path: Path) -> Registry:
    """A signed registry in S3 with the versions one and two; production names two."""
    registry = owners(S3Store(BUCKET, "registry"))
    for model_id in ("one", "two"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        registry.promote(model_id, "production")
    return registry


def share_url(registry: Registry, variants: list[str] | None = None) -> str:
    url = write_share(registry, "production", variants, 3600, f"s3://{BUCKET}/share.json")
    assert url is not None
    return url


def open_share(url: str) -> Registry:
    return replace(Registry.open(url), keys=ed25519().public_keys)


def remove_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)


def test_a_device_without_credentials_pulls_a_shared_channel(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = share_url(registry)
    remove_credentials(monkeypatch)
    bundle = install_current(open_share(url), "production", tmp_path / "device").bundle
    manifest = read_manifest(bundle, ed25519().public_keys)
    assert manifest.model_id == "two"
    check_files(bundle, manifest.serving_files(["float32", "int8"]))


def test_a_share_holds_only_the_serving_files(registry: Registry, bucket: Any) -> None:
    share_url(registry, ["int8"])
    raw = json.loads(bucket.get_object(Bucket=BUCKET, Key="share.json")["Body"].read())
    assert list(raw) == ["schema", "channel", "model_id", "expires_at", "objects"]
    assert sorted(raw["objects"]) == [
        "channels/production.json",
        *(f"models/two/{name}" for name in ("int8.tflite", "labels.txt", "manifest.json", "model.sig")),
    ]
    assert all("X-Amz-Signature=" in url and "X-Amz-Expires=3600" in url for url in raw["objects"].values())


def test_without_a_variant_a_device_takes_one_that_the_share_holds(registry: Registry, tmp_path: Path) -> None:
    bundle = open_share(share_url(registry, ["int8"])).pull("two", tmp_path / "part", ["auto"])
    assert {path.name for path in bundle.glob("*.tflite")} == {"int8.tflite"}
    bundle = open_share(share_url(registry)).pull("two", tmp_path / "whole", ["auto"])
    assert {path.name for path in bundle.glob("*.tflite")} == {"float32.tflite"}


def test_a_changed_channel_has_to_be_shared_again(registry: Registry, tmp_path: Path) -> None:
    url = share_url(registry)
    install_current(open_share(url), "production", tmp_path)
    registry.promote("one", "production")
    with pytest.raises(
        NotFoundError, match=r"there is no model one; the channel may have changed since: share it again"
    ):
        install_current(open_share(url), "production", tmp_path)
    share_url(registry)
    assert install_current(open_share(url), "production", tmp_path).model_id == "one"


def test_an_altered_pointer_in_a_share_is_refused(registry: Registry, tmp_path: Path) -> None:
    url = share_url(registry)
    registry.store.put("channels/production.json", forged(registry.channel("production"), model_id="one"))
    with pytest.raises(UntrustedError, match="does not match its signature"):
        install_current(open_share(url), "production", tmp_path)


def test_a_share_is_read_only(registry: Registry) -> None:
    with pytest.raises(InputError, match="a share is read-only"):
        Registry(SharedStore(share_url(registry)), None, ed25519()).sign("two")


def test_only_a_registry_in_s3_can_be_shared(tmp_path: Path) -> None:
    local = owners(Registry.open(str(tmp_path / "registry")).store)
    local.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    local.promote("one", "production")
    with pytest.raises(InputError, match="only a registry in S3 can be shared by URL"):
        write_share(local, "production", None, 60, str(tmp_path / "share.json"))


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("7d", 604800)])
def test_a_duration_is_parsed(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "8d", "7", "d", "-1d", "1w", "169h"])
def test_a_duration_that_s3_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a duration from 1m to 7d"):
        parse_duration(text)


def test_the_share_command_prints_the_url_for_pull(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"s3://{BUCKET}/shares/production.json"
    assert run(["models", "share", "--registry", registry.store.uri, "--out", out, "--expires", "12h"]) == 0
    url = capsys.readouterr().out.strip()
    assert run(["models", "pull", "--registry", url, "--dest", str(tmp_path / "device")]) == 0
    assert read_manifest(tmp_path / "device" / "two").model_id == "two"
    local = tmp_path / "share.json"
    assert run(["models", "share", "--registry", registry.store.uri, "--out", str(local)]) == 0
    assert json.loads(local.read_bytes())["model_id"] == "two"


def test_urls_work_on_a_server_that_checks_signatures_until_they_expire(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    with running_s3(tmp_path / "s3") as server:
        if server.name != "SeaweedFS":
            pytest.skip("SeaweedFS has no wheel for this machine; moto checks no signature")
        s3_client().create_bucket(Bucket=BUCKET)
        registry = owners(S3Store(BUCKET, "registry"))
        registry.publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
        registry.promote("one", "production")
        url = write_share(registry, "production", None, 4, f"s3://{BUCKET}/share.json")
        assert url is not None
        assert install_current(open_share(url), "production", tmp_path / "device").model_id == "one"
        for altered in (url.replace("Expires=4", "Expires=40"), f"{url[:-3]}abc"):
            with pytest.raises(AccessDeniedError, match="share the channel again"):
                open_share(altered).channel("production")
        time.sleep(5)
        with pytest.raises(AccessDeniedError, match="share the channel again"):
            open_share(url).channel("production")
