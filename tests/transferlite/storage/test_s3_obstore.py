import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.transferlite.faults import refuse
from transferlite.errors import AccessDeniedError, MissingStoreError, NotFoundError
from transferlite.storage import s3_obstore as s3_quick
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.s3_obstore import QuickS3Store, is_enough

IN_LAMBDA = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}


@pytest.fixture
def store(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[QuickS3Store]:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield QuickS3Store(f"s3://{BUCKET}/folder")
    s3_quick._bucket.cache_clear()


@pytest.mark.parametrize(
    ("change", "enough"),
    [
        ({}, True),
        ({"AWS_SESSION_TOKEN": "c", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, True),
        ({"AWS_ACCESS_KEY_ID": ""}, False),  # SnapStart: they come from an address
        ({"AWS_PROFILE": "me"}, False),
        ({"AWS_CA_BUNDLE": "/etc/ssl/mine.pem"}, False),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, False),
        ({"AWS_REGION": "cn-north-1"}, False),
        ({"AWS_REGION": "us-gov-west-1"}, False),
        ({"AWS_REGION": "ap-southeast-2"}, True),
    ],
)
def test_it_is_taken_only_where_it_finds_what_boto3_finds(change: dict[str, str], enough: bool) -> None:
    assert is_enough(IN_LAMBDA | change) is enough


def test_a_function_has_it_and_no_one_else(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in s3_quick._SPECIAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(open_store(f"s3://{BUCKET}"), S3Store)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    assert isinstance(open_store(f"s3://{BUCKET}"), QuickS3Store)
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    assert isinstance(open_store(f"s3://{BUCKET}"), S3Store)


def test_what_succeeds_needs_no_boto3(store: QuickS3Store) -> None:
    code = f"""
import sys
from transferlite.storage.s3_obstore import QuickS3Store
store = QuickS3Store({store.uri!r})
etag = store.put("a b+c/é.json", b"one", if_absent=True)
store.put("a b+c/é.json", b"two", if_match=etag)
print(b"".join(store.stream("a b+c/é.json")), b"".join(store.stream("a b+c/é.json", 1)))
print(store.get("a b+c/é.json", 2).data.decode(), "boto3" in sys.modules, "botocore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("b'two' b'wo'\ntw False False\n", "")
    assert S3Store(BUCKET, "folder").get("a b+c/é.json").data == b"two"


def test_a_stream_is_the_object_from_a_byte_on(store: QuickS3Store) -> None:
    content = bytes(range(256)) * 4000
    store.put("a/model", content)
    for start in (0, 1, 500_000, len(content) - 1, len(content), len(content) + 5):
        assert b"".join(store.stream("a/model", start)) == content[start:]


def test_errors_are_boto3_s_own_words(store: QuickS3Store) -> None:
    with pytest.raises(NotFoundError, match=f"s3://{BUCKET}/folder/no.jpg: does not exist"):
        store.get("no.jpg")
    with pytest.raises(NotFoundError, match=f"s3://{BUCKET}/folder/no.jpg: does not exist"):
        list(store.stream("no.jpg"))
    with pytest.raises(MissingStoreError, match="there is no bucket no-such-bucket"):
        QuickS3Store("s3://no-such-bucket/x").get("y")
    refuse("GetObject", "AccessDenied", 403)
    with pytest.raises(AccessDeniedError, match="access denied"):
        store.get("no.jpg")


@pytest.mark.parametrize("key", ["a//b.jpg", "./b.jpg", "a/../b.jpg"])
def test_a_key_that_obstore_would_rewrite_is_the_object_of_that_name(store: QuickS3Store, key: str) -> None:
    s3_client().put_object(Bucket=BUCKET, Key="folder/b.jpg", Body=b"another")
    assert isinstance(store._whole, S3Store)
    if key == "a//b.jpg":  # the client of moto's server resolves the others by itself
        store.put(key, b"mine")
        assert store.get(key).data == b"mine"
    assert not store._is_plain(key)
