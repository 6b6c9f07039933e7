import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore
import obstore
import pytest
from obstore.store import S3Store as Bucket

from tests.conftest import BUCKET
from transferlite.storage import s3_obstore as s3_quick
from transferlite.storage.deadline import DeadlineStore
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.s3_obstore import ObstoreS3Store, is_enough

IN_LAMBDA = {
    "AWS_CONFIG_FILE": "/none",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_REGION": "eu-central-1",
}


@pytest.fixture
def store(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObstoreS3Store]:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield ObstoreS3Store(f"s3://{BUCKET}/folder")
    s3_quick._bucket.cache_clear()


@pytest.mark.parametrize(
    ("change", "enough"),
    [
        ({}, True),
        ({"AWS_SESSION_TOKEN": "c", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, True),
        ({"AWS_ACCESS_KEY_ID": ""}, False),  # SnapStart: they come from an address
        ({"AWS_PROFILE": "me"}, False),
        ({"AWS_CA_BUNDLE": "/etc/ssl/mine.pem"}, False),
        ({"REQUESTS_CA_BUNDLE": "/etc/ssl/mine.pem"}, False),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, False),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, False),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, False),
        ({"AWS_CONFIG_FILE": __file__}, False),
    ],
)
def test_it_is_taken_only_where_it_finds_what_boto3_finds(change: dict[str, str], enough: bool) -> None:
    assert is_enough(IN_LAMBDA | change) is enough


@pytest.mark.parametrize("error", [PermissionError(), RuntimeError("Could not determine home directory.")])
def test_a_home_that_cannot_be_read_has_no_configuration(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> Path:
        raise error

    monkeypatch.setattr(Path, "expanduser", fail)
    assert is_enough({name: value for name, value in IN_LAMBDA.items() if name != "AWS_CONFIG_FILE"})


def test_it_is_taken_in_every_region_of_the_ordinary_partition_and_in_no_other() -> None:
    partitions = json.loads((Path(botocore.__file__).parent / "data" / "partitions.json").read_text())["partitions"]
    for partition in partitions:
        regions = [region for region in partition["regions"] if not region.endswith("-global")]
        assert regions
        for region in regions:
            assert is_enough(IN_LAMBDA | {"AWS_REGION": region}) is (partition["id"] == "aws"), region


def test_the_import_needs_no_boto3() -> None:
    code = "import sys, transferlite.storage.s3_obstore; print({'boto3', 'botocore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("key", ["a//b.jpg", "/b.jpg", "./b.jpg", "a/../b.jpg", "a\nb", "a\x7fb"])
def test_obstore_alone_does_not_take_every_key(store: ObstoreS3Store, key: str) -> None:
    """As soon as it does, one store may be enough."""
    with pytest.raises(ValueError, match="Could not parse path"):
        obstore.get(store._bucket, f"folder/{key}")


def test_obstore_alone_reads_no_profile_and_no_special_endpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile me]\naws_access_key_id = mine\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "me")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3_client.cache_clear()
    address = S3Store("b").presigned("k", 60)
    s3_client.cache_clear()
    assert address.startswith("https://s3-fips.dualstack.us-east-1.amazonaws.com/b/k?")
    assert "mine" in address
    assert "access_key_id" not in Bucket("b").config
    signed = obstore.sign(Bucket("b", access_key_id="a", secret_access_key="b"), "GET", "k", timedelta(minutes=1))
    assert signed.startswith("https://s3.us-east-1.amazonaws.com/b/k?")


def store_in_function() -> Any:
    """Return the store that the function's deadlines are put around."""
    store = open_store(f"s3://{BUCKET}")
    assert isinstance(store, DeadlineStore)
    return store._store


def test_a_function_has_it_and_no_one_else(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in s3_quick._SPECIAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(open_store(f"s3://{BUCKET}"), S3Store)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    assert isinstance(store_in_function(), ObstoreS3Store)
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    assert isinstance(store_in_function(), S3Store)


def test_what_succeeds_needs_no_boto3(store: ObstoreS3Store) -> None:
    code = f"""
import sys
from transferlite.storage.s3_obstore import ObstoreS3Store
store = ObstoreS3Store({store.uri!r})
etag = store.put("a b+c/é.json", b"one", if_absent=True)
store.put("a b+c/é.json", b"two", if_match=etag)
print(b"".join(store.stream("a b+c/é.json")), b"".join(store.stream("a b+c/é.json", 1)))
print(store.get("a b+c/é.json", 2).data.decode(), "boto3" in sys.modules, "botocore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("b'two' b'wo'\ntw False False\n", "")
    assert S3Store(BUCKET, "folder").get("a b+c/é.json").data == b"two"
