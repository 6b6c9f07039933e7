"""S3 answers that no test double gives: cut short, or lost after the write was done."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.transferlite.bundles import write_bundle
from transferlite.errors import ConflictError, UnavailableError
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store, s3_client

WHOLE = b"photo" * 20_000


class CutS3:
    """A server on loopback whose first ``cuts`` answers end after 1,000 bytes of the length they declare.

    Refusals end by a reset of the connection, which botocore meets outside of its own handling of errors.
    """

    def __init__(self, cuts: int, status: int = 200) -> None:
        self.left = cuts
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if outer.left > 0 else 200)
                self.send_header("Content-Length", str(len(WHOLE)))
                self.send_header("ETag", '"e"')
                self.end_headers()
                self.wfile.write(WHOLE[:1000] if outer.left > 0 else WHOLE)
                if outer.left > 0 and status != 200:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                outer.left -= 1
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def cut_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., S3Store]]:
    started: list[CutS3] = []

    def start(cuts: int, status: int = 200) -> S3Store:
        started.append(CutS3(cuts, status))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{started[-1].server.server_port}")
        s3_client.cache_clear()
        return S3Store("bucket")

    yield start
    s3_client.cache_clear()
    for one in started:
        one.server.shutdown()
        one.server.server_close()


@pytest.mark.parametrize("max_bytes", [None, 10**6])
def test_an_answer_that_was_cut_is_asked_for_again(cut_s3: Callable[..., S3Store], max_bytes: int | None) -> None:
    assert cut_s3(2).get("photo.jpg", max_bytes).data == WHOLE


@pytest.mark.parametrize("max_bytes", [None, 10**6, 50_000])
def test_answers_that_are_always_cut_are_no_photo(cut_s3: Callable[..., S3Store], max_bytes: int | None) -> None:
    with pytest.raises(UnavailableError, match=r"photo\.jpg"):
        cut_s3(100).get("photo.jpg", max_bytes)


@pytest.mark.parametrize("status", [403, 503])
def test_a_refusal_that_breaks_off_is_asked_for_again(cut_s3: Callable[..., S3Store], status: int) -> None:
    assert cut_s3(1, status).get("photo.jpg").data == WHOLE


@pytest.mark.parametrize("work", [lambda store: store.get("k"), lambda store: list(store.stream("k"))])
def test_refusals_that_always_break_off_are_explained(
    cut_s3: Callable[..., S3Store], work: Callable[[S3Store], object]
) -> None:
    with pytest.raises(UnavailableError, match="check the network and try again"):
        work(cut_s3(100, 403))


class ForgetfulStore(FolderStore):
    """A store whose conditional writes happen, but whose answer is that they did not, as after a repeated request."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = super().put(key, data, if_absent=if_absent, if_match=if_match)
        if if_absent or if_match:
            raise ConflictError("exists already", where=key)
        return etag


def test_a_write_whose_answer_was_lost_has_happened(tmp_path: Path) -> None:
    registry = Registry(ForgetfulStore(tmp_path / "registry"))
    for model_id in ("one", "two"):
        registry.publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        assert registry.promote(model_id, "production").model_id == model_id
    assert registry.rollback("production").model_id == "one"
    assert registry.channel("production").previous == ()
