"""What both S3 stores make of buckets, versions, markers and addresses, against a server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET
from tests.transferlite.conftest import open_s3
from tests.transferlite.storage.s3_ways import OTHERS, READING, WRITING, Work
from transferlite.errors import AccessDeniedError, InputError, MissingStoreError, NotFoundError
from transferlite.storage.s3_boto3 import S3Store, s3_client
from transferlite.storage.store import Blob

ROOT = f"s3://{BUCKET}/folder"

WAYS = READING | WRITING | OTHERS


@pytest.mark.parametrize("work", WAYS.values(), ids=WAYS)
def test_a_missing_bucket_is_named(kind: str, bucket: Any, path: Path, work: Work) -> None:
    with pytest.raises(
        MissingStoreError, match=r"/x/.*: there is no bucket no-such-bucket; create it or correct the URI"
    ):
        work(open_s3(kind, "s3://no-such-bucket/x"), path)


def test_a_head_in_a_missing_bucket_is_not_found(kind: str, bucket: Any, path: Path) -> None:
    """S3 refuses a HEAD without words."""
    store = open_s3(kind, "s3://no-such-bucket")
    for work in (lambda: store.head("k"), lambda: store.download("k", path)):
        with pytest.raises(NotFoundError, match="does not exist"):
            work()
    assert path.read_bytes() == b"content"


def test_a_missing_key_is_not_found_by_any_method(kind: str, bucket: Any, tmp_path: Path) -> None:
    store = open_s3(kind, ROOT)
    works: list[Callable[[], object]] = [
        lambda: store.get("no.jpg"),
        lambda: store.get_changed("no.jpg", "etag"),
        lambda: list(store.stream("no.jpg")),
        lambda: list(store.stream("no.jpg", 5)),
        lambda: store.head("no.jpg"),
        lambda: store.download("no.jpg", tmp_path / "copy"),
    ]
    for work in works:
        with pytest.raises(NotFoundError) as caught:
            work()
        assert str(caught.value) == f"{ROOT}/no.jpg: does not exist"


def test_each_version_of_an_object_is_got(kind: str, bucket: Any) -> None:
    bucket.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    put = [bucket.put_object(Bucket=BUCKET, Key="folder/k", Body=body) for body in (b"first", b"second")]
    store: Any = open_s3(kind, ROOT)
    assert [store.get("k", version=one["VersionId"]) for one in put] == [
        Blob(b"first", put[0]["ETag"]),
        Blob(b"second", put[1]["ETag"]),
    ]
    assert store.get("k", 3, version=put[0]["VersionId"]).data == b"fir"
    assert store.get("k").data == b"second"
    with pytest.raises(NotFoundError, match=f"{ROOT}/k: does not exist"):
        store.get("k", version="11111111-2222-3333-4444-555555555555")


def test_an_object_below_a_delete_marker_is_not_found(kind: str, bucket: Any) -> None:
    bucket.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    store: Any = open_s3(kind, ROOT)
    store.put("k", b"data")
    (version,) = bucket.list_object_versions(Bucket=BUCKET)["Versions"]
    store.delete("k")
    for work in (lambda: store.get("k"), lambda: store.head("k"), lambda: list(store.stream("k"))):
        with pytest.raises(NotFoundError, match=f"{ROOT}/k: does not exist"):
            work()
    assert not list(store.entries())
    assert store.get("k", version=version["VersionId"]).data == b"data"
    store.put("k", b"again", if_absent=True)
    assert store.get("k").data == b"again"


def test_a_stream_is_the_object_from_a_byte_on(kind: str, bucket: Any) -> None:
    content, store = bytes(range(256)) * 4000, open_s3(kind, ROOT)
    store.put("a/model", content)
    for start in (0, 1, 500_000, len(content) - 1, len(content), len(content) + 5):
        assert b"".join(store.stream("a/model", start)) == content[start:]


def test_a_folder_marker_is_not_an_entry(kind: str, bucket: Any) -> None:
    bucket.put_object(Bucket=BUCKET, Key="photos/", Body=b"")
    bucket.put_object(Bucket=BUCKET, Key="photos/cat.jpg", Body=b"")
    assert [entry.key for entry in open_s3(kind, f"s3://{BUCKET}/photos").entries()] == ["cat.jpg"]


def test_every_object_is_an_entry_whatever_its_key(kind: str, bucket: Any) -> None:
    keys = [
        "./a.jpg",
        "../a.jpg",
        "b/./c.jpg",
        "b/../c.jpg",
        "b//c.jpg",
        "/c.jpg",
        "d.jpg/",
        "e/",
        "f\x01.jpg",
        "..",
        "//",
    ]
    for key in keys:
        bucket.put_object(Bucket=BUCKET, Key=f"photos/{key}", Body=b"content")
    assert [entry.key for entry in open_s3(kind, f"s3://{BUCKET}/photos").entries()] == sorted(keys)


def test_an_object_at_the_prefix_itself_is_an_entry_if_it_has_content(kind: str, bucket: Any) -> None:
    bucket.put_object(Bucket=BUCKET, Key="photos/", Body=b"content")
    assert [(entry.key, entry.size) for entry in open_s3(kind, f"s3://{BUCKET}/photos").entries()] == [("", 7)]


def test_more_entries_than_one_page_are_all_listed(kind: str, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    keys = [f"folder{number}/k" for number in range(8)]
    for key in keys:
        bucket.put_object(Bucket=BUCKET, Key=key, Body=b"")
    store = open_s3(kind, f"s3://{BUCKET}")
    assert [entry.key for entry in store.entries()] == keys
    assert [f"{child}/k" for child in store.children()] == keys


@pytest.mark.parametrize("key", ["a//b.jpg", "/b.jpg"])
def test_a_key_with_an_empty_segment_names_its_own_object(kind: str, bucket: Any, key: str) -> None:
    bucket.put_object(Bucket=BUCKET, Key="folder/b.jpg", Body=b"another")
    store = open_s3(kind, ROOT)
    etag = store.put(key, b"mine")
    assert (store.get(key).data, store.head(key).etag) == (b"mine", etag)
    assert b"".join(store.stream(key)) == b"mine"
    assert bucket.get_object(Bucket=BUCKET, Key=f"folder/{key}")["Body"].read() == b"mine"


@pytest.mark.parametrize("uri", [ROOT, f"{ROOT}/", f"s3://{BUCKET}//folder//"])
def test_a_uri_is_without_outer_slashes(kind: str, bucket: Any, uri: str) -> None:
    store = open_s3(kind, uri)
    store.put("k", b"data")
    assert store.uri == ROOT
    assert bucket.get_object(Bucket=BUCKET, Key="folder/k")["Body"].read() == b"data"


def test_a_uri_without_a_bucket_is_refused(kind: str) -> None:
    for uri in ("s3://", "s3:///key"):
        with pytest.raises(InputError, match="names no bucket; write s3://BUCKET/PREFIX"):
            open_s3(kind, uri)


def test_an_empty_key_is_refused(kind: str, bucket: Any) -> None:
    with pytest.raises(InputError, match="Invalid length for parameter Key"):
        open_s3(kind, f"s3://{BUCKET}").get("")


# -- settings that boto3 alone reads ---------------------------------------------------------------------------------


def test_without_credentials_s3_is_denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3_client.cache_clear()
    try:
        with pytest.raises(AccessDeniedError, match="no AWS credentials found; set AWS_PROFILE"):
            S3Store(BUCKET).get("k")
    finally:
        s3_client.cache_clear()


def test_an_unknown_profile_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    s3_client.cache_clear()
    with pytest.raises(InputError, match="nobody"):
        S3Store(BUCKET)
