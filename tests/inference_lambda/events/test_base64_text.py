import base64
import time
from contextlib import suppress

import pytest

from inference_lambda.events.base64_text import decode_base64
from inference_lambda.events.parse import DirectInvocation, parse_event

DATA = bytes(range(256)) + b"\xfb\xff\xfe"
TEXT = base64.b64encode(DATA).decode()
LINES = base64.encodebytes(DATA).decode()
TEXTS = {
    "one line": TEXT,
    "line breaks of 76": LINES,
    "CRLF": LINES.replace("\n", "\r\n"),
    "CR": LINES.replace("\n", "\r"),
    "indented lines": "  " + LINES.replace("\n", " \n\t"),
    "blank lines": LINES.replace("\n", "\n\n"),
    "trailing newline": TEXT + "\n",
    "leading newline": "\n" + TEXT,
    "spaces around": f"  {TEXT}  ",
    "data URL": f"data:image/jpeg;base64,{TEXT}",
    "data URL without a type": f"data:;base64,{TEXT}",
    "data URL with parameters": f"DATA:image/png;name=a%20b.png;BASE64,{TEXT}",
    "data URL with line breaks": f"data:image/jpeg;base64,\n{LINES}",
    "URL-safe": base64.urlsafe_b64encode(DATA).decode(),
    "URL-safe without padding": base64.urlsafe_b64encode(DATA).decode().rstrip("="),
    "without padding": TEXT.rstrip("="),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_base64_is_decoded_however_it_is_written(text: str) -> None:
    assert decode_base64(text) == DATA
    assert parse_event({"image": text}) == DirectInvocation(image=DATA)


@pytest.mark.parametrize("size", range(7))
def test_missing_padding_is_added_for_every_length(size: int) -> None:
    assert decode_base64(base64.b64encode(DATA[:size]).decode().rstrip("=")) == DATA[:size]


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("+", " ", 4),
        "AAAA AAAA",
        "AAAA\n AA BB",
        "A",
        "AAAAA",
        "AA=A",
        "AA=",
        "====",
        "é",
        "AAAA\ud800",
        "AAAA\0",
        "data:image/svg+xml,%3Csvg%3E",
        "data:image/jpeg;base64",
        "s3://bucket/key",
    ],
)
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)


@pytest.mark.parametrize("text", ["\n" * 6_000_000, " " * 6_000_000 + "x", "data:" * 1_200_000, "A\n" * 3_000_000])
def test_no_text_takes_long_to_decode(text: str) -> None:
    started = time.process_time()
    with suppress(ValueError):
        decode_base64(text)
    assert time.process_time() - started < 5
