"""Answers of S3 that no test double gives, and the error and the number of requests that both stores make of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.transferlite.bundles import write_bundle
from tests.transferlite.conftest import open_s3
from tests.transferlite.storage.s3_ways import OTHERS, READING, ROOT, WITHOUT_WORDS, WRITING, Work, failure
from tests.transferlite.storage.scripted_s3 import Answer, Request, ScriptedS3, content, refusal
from transferlite.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)
from transferlite.registry.open_registry import Registry
from transferlite.storage import s3_settings
from transferlite.storage.folder import FolderStore

Start = Callable[[Callable[[Request], Answer]], ScriptedS3]

# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "expected", "message"),
    [
        ("AccessDenied", 403, AccessDeniedError, "access denied (AccessDenied for a test)"),
        ("InvalidAccessKeyId", 403, AccessDeniedError, "access denied (InvalidAccessKeyId for a test)"),
        ("ExpiredToken", 400, AccessDeniedError, "access denied (ExpiredToken for a test)"),
        ("EntityTooLarge", 400, TransferLiteError, "S3 answered 400 EntityTooLarge: EntityTooLarge for a test"),
    ],
)
def test_a_refusal_is_the_same_error_of_every_method(
    kind: str, scripted: Start, path: Path, code: str, status: int, expected: type[Exception], message: str
) -> None:
    scripted(lambda _: refusal(code, status))
    for work in (READING | WRITING | OTHERS).values():
        error = failure(work, open_s3(kind, ROOT), path)
        assert (type(error), error.message, error.retryable) == (expected, message, False)
        assert error.where.startswith(f"{ROOT}/")


def test_a_wrong_clock_is_named(scripted: Start, path: Path) -> None:
    scripted(lambda _: refusal("RequestTimeTooSkewed", 403))
    error = failure(READING["get"], open_s3("s3", ROOT), path)
    assert (type(error), error.hint) == (AccessDeniedError, "set the clock of this machine (timedatectl set-ntp true)")


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("TooManyRequests", 429)])
def test_a_busy_s3_receives_six_requests(kind: str, scripted: Start, path: Path, code: str, status: int) -> None:
    server, works = scripted(lambda _: refusal(code, status)), READING | WRITING
    for work in (works | OTHERS if code == "SlowDown" else works).values():
        server.requests.clear()
        error = failure(work, open_s3(kind, ROOT), path)
        assert (type(error), error.message) == (UnavailableError, f"S3 answered {status} {code}")
        assert error.retryable
        assert len(server.requests) == s3_settings.REQUESTS == 6


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [
        (403, AccessDeniedError, "access denied (Forbidden)"),
        (404, NotFoundError, "does not exist"),
        (503, UnavailableError, "S3 answered 503 503"),
    ],
)
def test_a_refusal_of_a_head_is_known_by_its_status(
    kind: str, scripted: Start, path: Path, status: int, expected: type[Exception], message: str
) -> None:
    scripted(lambda _: Answer(status))
    for work in WITHOUT_WORDS.values():
        error = failure(work, open_s3(kind, ROOT), path)
        assert (type(error), error.message) == (expected, message)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [("MethodNotAllowed", 405, "is a delete marker"), ("InvalidObjectState", 403, "is archived")],
)
def test_an_object_without_readable_content_is_not_found(
    kind: str, scripted: Start, code: str, status: int, message: str
) -> None:
    scripted(lambda _: refusal(code, status))
    store: Any = open_s3(kind, ROOT)
    for work in (lambda: store.get("k"), lambda: store.get("k", version="v1"), lambda: list(store.stream("k"))):
        with pytest.raises(NotFoundError) as caught:
            work()
        assert caught.value.message == message


@pytest.mark.parametrize("work", READING.values(), ids=READING)
@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("NoSuchVersion", 404)])
def test_a_missing_object_is_not_found(
    kind: str, scripted: Start, path: Path, work: Work, code: str, status: int
) -> None:
    scripted(lambda _: refusal(code, status))
    error = failure(work, open_s3(kind, ROOT), path)
    assert (type(error), str(error)) == (NotFoundError, f"{ROOT}/k: does not exist")


# -- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [("PreconditionFailed", 412), ("ConditionalRequestConflict", 409), ("NoSuchKey", 404)]
)
def test_a_lost_condition_is_a_conflict(kind: str, scripted: Start, path: Path, code: str, status: int) -> None:
    scripted(lambda _: refusal(code, status))
    for name in ("create", "replace"):
        error = failure(WRITING[name], open_s3(kind, ROOT), path)
        assert (type(error), str(error)) == (ConflictError, f"{ROOT}/k: was changed by another writer")


@pytest.mark.parametrize(("code", "status"), [("OperationAborted", 409), ("PreconditionFailed", 412)])
def test_a_write_without_a_condition_meets_no_conflict(
    kind: str, scripted: Start, path: Path, code: str, status: int
) -> None:
    scripted(lambda _: refusal(code, status))
    error = failure(WRITING["put"], open_s3(kind, ROOT), path)
    assert (type(error), error.message) == (TransferLiteError, f"S3 answered {status} {code}: {code} for a test")


@pytest.mark.parametrize("etag", ["", " ", "*", "a\nb", "é"])
def test_a_condition_that_cannot_hold_is_a_conflict_without_a_request(kind: str, scripted: Start, etag: str) -> None:
    server = scripted(lambda _: Answer(headers={"ETag": '"new"'}))
    for key in ("k", "a//k"):
        with pytest.raises(ConflictError, match=f"{ROOT}/{key}: was changed by another writer"):
            open_s3(kind, ROOT).put(key, b"", if_match=etag)
    assert not server.requests


@pytest.mark.parametrize(
    ("condition", "sent"), [({"if_absent": True}, ("*", None)), ({"if_match": '"e"'}, (None, '"e"'))]
)
def test_a_condition_is_sent_as_its_header(
    kind: str, scripted: Start, condition: dict[str, Any], sent: tuple[str | None, str | None]
) -> None:
    server = scripted(lambda _: Answer(headers={"ETag": '"new"'}))
    assert open_s3(kind, ROOT).put("k", b"data", **condition) == '"new"'
    (request,) = server.requests
    assert (request.headers["If-None-Match"], request.headers["If-Match"]) == sent


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("a b+c/é.jpg", "a%20b%2Bc/%C3%A9.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("%2F", "%252F"),
        (
            "~*[]{}^`|\\#?&=;,:@!$'()\"<>",
            "~%2A%5B%5D%7B%7D%5E%60%7C%5C%23%3F%26%3D%3B%2C%3A%40%21%24%27%28%29%22%3C%3E",
        ),
        ("a//b", "a//b"),
        ("/a", "/a"),
        ("a/", "a/"),
        ("./b", "./b"),
        ("a/../b", "a/../b"),
        ("..", ".."),
        ("a\nb", "a%0Ab"),
        ("a\x7fb", "a%7Fb"),
    ],
)
def test_a_key_is_sent_as_it_is(kind: str, scripted: Start, key: str, sent: str) -> None:
    server = scripted(
        lambda request: Answer(headers={"ETag": '"e"'}) if request.method == "PUT" else content(b"data", request)
    )
    store = open_s3(kind, ROOT)
    store.put(key, b"data")
    assert store.get(key).data == b"data"
    assert b"".join(store.stream(key)) == b"data"
    assert store.head(key).key == key
    assert {request.path.partition("?")[0] for request in server.requests} == {f"/bucket/p/{sent}"}


# -- lost answers ----------------------------------------------------------------------------------------------------


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
