"""What moto does not hold a client to and SeaweedFS does: signatures, checksums, TLS, one winner among many writers."""

import base64
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.exceptions import BaseError

from benchmarks.helpers.s3_server import seaweedfs_command
from inference_lambda.records.write_record import write_record
from simulation.faults import Faults, faulty_proxy
from tests.template.stack import read_template
from tests.transferlite.bundles import write_bundle
from tests.transferlite.conftest import OWNER, REAL_BUCKET, Place
from transferlite.errors import AccessDeniedError, ConflictError, NotFoundError, TransferLiteError, UnavailableError
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store
from transferlite.storage.s3_boto3 import s3_client
from transferlite.storage.s3_obstore import _bucket
from transferlite.storage.store import Store

pytestmark = pytest.mark.skipif(seaweedfs_command() is None, reason="SeaweedFS has no wheel for this machine")

WRITERS = 8
ROUNDS = 4


of_each_kind = pytest.mark.parametrize("kind", ["s3", "quick s3"])

# -- signatures and checksums ----------------------------------------------------------------------------------------


@of_each_kind
def test_a_wrong_secret_key_is_denied_and_the_right_one_is_not(kind: str, place: Place) -> None:
    place.open(kind).put("k", b"content")
    place.patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    works: list[Callable[[Store], object]] = [
        lambda store: store.get("k"),
        lambda store: store.put("k", b"theirs"),
        lambda store: store.head("k"),
    ]
    for work in works:
        with pytest.raises(AccessDeniedError, match=r"/k: access denied .*; check the role's policy"):
            work(place.open(kind))
    place.patch.setenv("AWS_SECRET_ACCESS_KEY", OWNER["AWS_SECRET_ACCESS_KEY"])
    assert place.open(kind).get("k").data == b"content"


@pytest.mark.parametrize(("algorithm", "size"), [("SHA256", 32), ("CRC32", 4)])
def test_content_that_does_not_have_its_checksum_is_not_kept(algorithm: str, size: int, place: Place) -> None:
    store = place.open()

    def claim(params: dict[str, Any], **_: object) -> None:
        params[f"Checksum{algorithm}"] = base64.b64encode(bytes(size)).decode()

    s3_client().meta.events.register("provide-client-params.s3.PutObject", claim)
    with pytest.raises(TransferLiteError, match="BadDigest"):
        store.put("k", b"content")
    with pytest.raises(NotFoundError):
        store.get("k")


def test_content_that_changed_on_its_way_is_not_kept(place: Place) -> None:
    store = place.open()

    def damage(request: Any, **_: object) -> None:
        request.body = b"tampered"

    s3_client().meta.events.register("before-send.s3.PutObject", damage)
    with pytest.raises(TransferLiteError):
        store.put("k", b"original")
    with pytest.raises(NotFoundError):
        store.get("k")


def test_an_upload_that_ends_before_its_length_is_not_kept(place: Place) -> None:
    wanted = {"Bucket": REAL_BUCKET, "Key": f"{place.folder}/k"}
    parts = urlsplit(s3_client().generate_presigned_url("put_object", Params=wanted))
    assert parts.port
    with socket.create_connection(("127.0.0.1", parts.port), timeout=30) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + bytes(400))
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in connection.makefile("rb").readline()
    with pytest.raises(NotFoundError):
        place.open().get("k")


# -- many writers ----------------------------------------------------------------------------------------------------


def at_once(work: Callable[[int], bool]) -> list[bool]:
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(work, range(WRITERS)))


@of_each_kind
def test_of_eight_that_create_an_object_one_does(kind: str, place: Place) -> None:
    store = place.open(kind)
    for number in range(ROUNDS):

        def create(writer: int, key: str = f"lock{number}") -> bool:
            try:
                store.put(key, str(writer).encode(), if_absent=True)
            except ConflictError:
                return False
            return True

        won = at_once(create)
        assert sum(won) == 1
        assert store.get(f"lock{number}").data == str(won.index(True)).encode()


@of_each_kind
def test_of_eight_that_replace_what_they_read_one_does(kind: str, place: Place) -> None:
    store = place.open(kind)
    etag = store.put("k", b"first")
    for number in range(ROUNDS):

        def replace(writer: int, data: str = f"{number} of ", etag: str = etag) -> bool:
            try:
                store.put("k", f"{data}{writer}".encode(), if_match=etag)
            except ConflictError:
                return False
            return True

        won = at_once(replace)
        assert sum(won) == 1
        assert store.get("k").data == f"{number} of {won.index(True)}".encode()
        etag = store.get("k").etag


@of_each_kind
def test_no_increment_is_lost_when_eight_threads_compare_and_swap(kind: str, place: Place) -> None:
    store = place.open(kind)
    store.put("counter", b"0")

    def increment(_: int) -> bool:
        left = 3
        while left:
            found = store.get("counter")
            try:
                store.put("counter", str(int(found.data) + 1).encode(), if_match=found.etag)
            except ConflictError:
                continue
            left -= 1
        return True

    at_once(increment)
    assert store.get("counter").data == str(3 * WRITERS).encode()


@of_each_kind
def test_promotions_that_race_are_all_in_the_history_once(kind: str, place: Place, tmp_path: Path) -> None:
    registry, ids = Registry(place.open(kind)), [f"model{number}" for number in range(WRITERS)]
    for model_id in ids:
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
    at_once(lambda number: registry.promote(ids[number], "production").model_id == ids[number])
    pointer = registry.channel("production")
    history = [pointer.model_id, *pointer.previous]
    assert sorted(history) == ids
    assert pointer.sequence >= WRITERS - 1


@of_each_kind
def test_rollbacks_that_race_go_back_to_what_they_say(kind: str, place: Place, tmp_path: Path) -> None:
    registry, ids = Registry(place.open(kind)), [f"model{number}" for number in range(WRITERS + 1)]
    for model_id in ids:
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        registry.promote(model_id, "production")

    answers: list[str] = []

    def go_back(_: int) -> bool:
        try:
            answers.append(registry.rollback("production").model_id)
        except ConflictError:
            return False
        return True

    assert any(at_once(go_back))
    left = registry.channel("production").model_id
    passed = ids[ids.index(left) : -1]
    assert sorted(set(answers)) == passed  # whoever was told of a step has seen it happen, and none was jumped


# -- a write whose answer is lost ------------------------------------------------------------------------------------


@dataclass
class LostResponses(Faults):
    """Lose the responses to the next ``left`` requests, after the server has carried them out."""

    seed: int = 0
    left: int = field(default=0)

    def next_fault(self) -> str:
        with self._lock:
            self.left -= 1
            return "lost" if self.left >= 0 else "none"


@pytest.fixture
def losing(place: Place) -> Iterator[LostResponses]:
    faults = LostResponses()
    with faulty_proxy(place.addresses.http, faults) as endpoint:
        place.at(endpoint)
        yield faults


@of_each_kind
def test_a_creation_whose_response_is_lost_conflicts_with_itself(
    kind: str, place: Place, losing: LostResponses
) -> None:
    """So there may be no winner among many. There are never two."""
    store = place.open(kind)
    losing.left = 1
    with pytest.raises(ConflictError):
        store.put("lock", b"mine", if_absent=True)
    assert store.get("lock").data == b"mine"


@of_each_kind
def test_a_promotion_whose_response_is_lost_happens_once(
    kind: str, place: Place, losing: LostResponses, tmp_path: Path
) -> None:
    store = place.open(kind)
    registry = Registry(store)
    for model_id in ("one", "two", "three"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        write, put = registry.store.put, store.put

        def lose(key: str, data: bytes, put: Callable[..., str] = put, **condition: Any) -> str:
            losing.left = 1
            return put(key, data, **condition)

        registry.store.put = lose  # type: ignore[method-assign]
        assert registry.promote(model_id, "production").model_id == model_id
        registry.store.put = write  # type: ignore[method-assign]
    pointer = registry.channel("production")
    assert (pointer.model_id, pointer.previous) == ("three", ("two", "one"))


@of_each_kind
def test_a_record_whose_response_is_lost_is_written_once(kind: str, place: Place, losing: LostResponses) -> None:
    store, record = place.open(kind), {"image": "s3://b/k.jpg", "etag": "e", "model_id": "m", "label": "red"}
    losing.left = 1
    assert write_record(store, "predictions/b/k.jpg.json", record, lambda: True) == record
    assert [entry.key for entry in store.entries()] == ["predictions/b/k.jpg.json"]


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore waits no seconds between its attempts."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@of_each_kind
@pytest.mark.usefixtures("_impatient")
def test_a_server_that_no_authority_vouches_for_is_refused(kind: str, place: Place) -> None:
    place.at(place.addresses.https)
    with pytest.raises(UnavailableError, match=r"certificate verify failed.*AWS_CA_BUNDLE"):
        place.open(kind).put("k", b"secret")


@pytest.mark.parametrize("api", ["", "127.0.0.1:9001"], ids=["elsewhere", "in a function"])
def test_with_its_certificate_as_authority_it_is_taken(api: str, place: Place) -> None:
    place.at(place.addresses.https)
    place.patch.setenv("AWS_CA_BUNDLE", str(place.authority))
    place.patch.setenv("AWS_LAMBDA_RUNTIME_API", api)
    store = open_store(place.uri)
    store.put("k", b"content")
    assert store.get("k").data == b"content"


def test_obstore_alone_does_not_read_the_named_authority(place: Place) -> None:
    place.at(place.addresses.https)
    place.patch.setenv("AWS_CA_BUNDLE", str(place.authority))
    place.open().put("k", b"content")
    with pytest.raises(BaseError, match="error sending request"):
        obstore.get(_bucket(REAL_BUCKET), f"{place.folder}/k")


@of_each_kind
@pytest.mark.usefixtures("_impatient")
def test_the_port_with_tls_takes_nothing_without(kind: str, place: Place) -> None:
    plain = place.addresses.https.replace("https", "http")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(plain)
    place.at(plain)
    with pytest.raises(TransferLiteError):
        place.open(kind).get("k")


@pytest.mark.parametrize("name", ["DataBucketPolicy", "ModelBucketPolicy", "PredictionBucketPolicy"])
def test_the_template_s_bucket_policies_refuse_what_is_not_tls_and_nothing_else(name: str, place: Place) -> None:
    place.open().put("k", b"content")
    document = dict(read_template()["Resources"][name]["Properties"]["PolicyDocument"])
    arn = f"arn:aws:s3:::{REAL_BUCKET}"
    document["Statement"] = [one | {"Resource": [arn, f"{arn}/*"]} for one in document["Statement"]]
    s3_client().put_bucket_policy(Bucket=REAL_BUCKET, Policy=json.dumps(document))
    works: list[Callable[[], object]] = [
        lambda: place.open().get("k"),
        lambda: place.open().put("k", b"new"),
        lambda: list(place.open().entries()),
    ]
    for work in works:
        with pytest.raises(AccessDeniedError):
            work()
    place.at(place.addresses.https)
    place.patch.setenv("AWS_CA_BUNDLE", str(place.authority))
    for work in works:
        work()
    s3_client().delete_bucket_policy(Bucket=REAL_BUCKET)
