"""An S3 that is silent or whose answers break off: the error and the number of requests that both stores make of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transferlite.conftest import open_s3
from tests.transferlite.storage.s3_ways import OTHERS, READING, ROOT, WITHOUT_WORDS, WRITING, Work, failure
from tests.transferlite.storage.scripted_s3 import Answer, Request, ScriptedS3, content
from transferlite.errors import UnavailableError
from transferlite.storage import s3_settings

Start = Callable[[Callable[[Request], Answer]], ScriptedS3]

WHOLE = b"photo" * 20_000
BROKE_OFF = f"{ROOT}/k: the answer of S3 broke off; check the network and try again"

# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_settings, "READ_SECONDS", 0.1)


@pytest.mark.usefixtures("_short_timeouts")
def test_a_silent_s3_receives_six_requests(kind: str, scripted: Start, path: Path) -> None:
    server = scripted(lambda _: Answer(silent=True))
    for name, work in (READING | {"put": WRITING["put"], "head": WITHOUT_WORDS["head"]}).items():
        server.requests.clear()
        error = failure(work, open_s3(kind, ROOT), path)
        assert (type(error), len(server.requests)) == (UnavailableError, s3_settings.REQUESTS), name
        text = (
            f'{ROOT}/k: Read timeout on endpoint URL: "{server.endpoint}/bucket/p/k"; check the network and try again'
        )
        assert str(error) == text


@pytest.mark.usefixtures("_short_timeouts")
def test_a_conditional_write_to_a_silent_s3_is_unavailable(kind: str, scripted: Start, path: Path) -> None:
    """Obstore does not repeat such a write after silence, for it may have been done."""
    server = scripted(lambda _: Answer(silent=True))
    assert type(failure(WRITING["create"], open_s3(kind, ROOT), path)) is UnavailableError
    assert len(server.requests) == {"s3": 6, "quick s3": 4}[kind]


@pytest.mark.usefixtures("_short_timeouts")
@pytest.mark.parametrize("work", READING.values(), ids=READING)
def test_content_that_stalls_is_unavailable(kind: str, scripted: Start, path: Path, work: Work) -> None:
    scripted(lambda _: Answer(200, WHOLE, {"ETag": '"e"'}, sent=1000, stalls=True))
    error = failure(work, open_s3(kind, ROOT), path)
    assert (type(error), str(error)) == (UnavailableError, BROKE_OFF)


def test_a_port_that_no_one_listens_on_is_unavailable(kind: str, scripted: Start, path: Path) -> None:
    server = scripted(lambda _: Answer())
    server.close()
    for work in (READING | WRITING | OTHERS | WITHOUT_WORDS).values():
        error = failure(work, open_s3(kind, ROOT), path)
        assert type(error) is UnavailableError
        assert error.message.startswith("Could not connect to the endpoint URL")


# -- content that breaks off -----------------------------------------------------------------------------------------


def cut(times: int, whole: bytes = WHOLE) -> Callable[[Request], Answer]:
    """Answers whose first ``times`` end after 1,000 bytes."""
    left = [times]

    def script(request: Request) -> Answer:
        left[0] -= 1
        return content(whole, request, sent=1000 if left[0] >= 0 else None)

    return script


@pytest.mark.parametrize("most", [None, 10**6])
def test_content_that_broke_off_twice_is_read_whole(kind: str, scripted: Start, most: int | None) -> None:
    server = scripted(cut(2))
    assert open_s3(kind, ROOT).get("k", most).data == WHOLE
    assert len(server.requests) == s3_settings.READS


@pytest.mark.parametrize("most", [None, 10**6, 50_000])
def test_content_that_always_breaks_off_is_unavailable(kind: str, scripted: Start, most: int | None) -> None:
    server = scripted(cut(100))
    with pytest.raises(UnavailableError) as caught:
        open_s3(kind, ROOT).get("k", most)
    assert str(caught.value) == BROKE_OFF
    assert len(server.requests) == s3_settings.READS + (kind == "quick s3" and most == 50_000)


def test_a_stream_that_breaks_off_is_unavailable(kind: str, scripted: Start) -> None:
    scripted(cut(100))
    read: list[bytes] = []
    with pytest.raises(UnavailableError) as caught:
        read.extend(open_s3(kind, ROOT).stream("k"))
    assert str(caught.value) == BROKE_OFF
    assert WHOLE.startswith(b"".join(read))


def test_boto3_alone_checks_the_crc_of_what_it_reads(kind: str, scripted: Start) -> None:
    """obstore does not show the header to its callers."""
    scripted(lambda _: Answer(200, WHOLE, {"ETag": '"e"', "x-amz-checksum-crc32": "AAAAAA=="}))
    store = open_s3(kind, ROOT)
    if kind == "quick s3":
        assert store.get("k").data == WHOLE
        return
    with pytest.raises(UnavailableError) as caught:
        store.get("k")
    assert str(caught.value) == BROKE_OFF


@pytest.mark.parametrize("status", [403, 503])
def test_a_refusal_that_breaks_off_once_is_repeated(kind: str, scripted: Start, status: int) -> None:
    refused: list[Request] = []

    def script(request: Request) -> Answer:
        if refused:
            return content(WHOLE, request)
        refused.append(request)
        return Answer(status, WHOLE, sent=1000, reset=True)

    scripted(script)
    assert open_s3(kind, ROOT).get("k").data == WHOLE


def test_a_refusal_that_always_breaks_off_is_unavailable(kind: str, scripted: Start, path: Path) -> None:
    scripted(lambda _: Answer(403, WHOLE, sent=1000, reset=True))
    for work in (READING | WRITING | OTHERS).values():
        error = failure(work, open_s3(kind, ROOT), path)
        assert (type(error), error.hint) == (UnavailableError, "check the network and try again")
