"""Photos from their URIs to arrays, fetched and decoded on threads, in order and in bounded memory."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from runtime.ahead import map_ahead
from runtime.errors import AccessDeniedError, NotFoundError, PhotoError, TransferLiteError
from runtime.imaging import PHOTO_CODES, READ_BYTES, RGB, InputSpec
from train_job.dataset import Example, Reject
from train_job.facts import Facts, examine
from train_job.fetch import fetch

_CORES = len(os.sched_getaffinity(0))
WORKERS = min(64, 8 * _CORES)
"""Threads that fetch, which is waiting for the network; of them as many decode at once as there are cores.

A small photo takes 3 ms to decode and S3 ten times that to send it.
"""

CONTENT_CODES = PHOTO_CODES | {"too-small"}
"""Why a photo itself cannot be used, as against what went wrong in fetching it: it need not be fetched again."""

MEMORY = 8 * READ_BYTES
"""Bytes that photos may take together from before they are fetched until they are decoded, and again after that."""


class _Room:
    """A number of bytes that threads share; who wants more than is free waits."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._given_back = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        with self._given_back:
            self._given_back.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._given_back:
                self._free += size
                self._given_back.notify_all()


_room = _Room(MEMORY)
_decoding = threading.BoundedSemaphore(_CORES)


@dataclass(frozen=True)
class Photo:
    """A decoded photo: uint8 RGB ``[H, W, 3]`` of the model's input size; ``example`` now has its sha256."""

    example: Example
    image: RGB
    facts: Facts


@dataclass(frozen=True)
class Seen:
    """A photo that was fetched and, now that its sha256 is known, need not be decoded."""

    example: Example


def load_photos(
    examples: Iterable[Example], spec: InputSpec, skip: Callable[[Example], bool] = lambda _: False
) -> Iterator[Photo | Seen | Reject]:
    """Each example's photo, in order, or why it cannot be used.

    ``skip`` is asked, on a thread, about each fetched example. A photo that is no longer what was listed has lost its
    ``stamp``.

    Raises:
        UnavailableError: the store stopped answering; the photo is not to blame.
    """
    pictures = MEMORY // (3 * spec.height * spec.width)
    return map_ahead(lambda example: _load(example, spec, skip), examples, WORKERS, min(2 * WORKERS, pictures))


def _load(example: Example, spec: InputSpec, skip: Callable[[Example], bool]) -> Photo | Seen | Reject:
    try:
        with _room.taken(_size(example)):
            return _fetched(example, spec, skip)
    except PhotoError as error:
        return _reject(example, error.code, error)
    except NotFoundError as error:
        return _reject(example, "missing", error)
    except AccessDeniedError as error:
        return _reject(example, "forbidden", error)
    except TransferLiteError as error:
        if error.retryable:
            raise
        return _reject(example, "unusable", error)


def _size(example: Example) -> int:
    """How many bytes the photo will take: as many as were listed, or else the most that are read."""
    size = example.stamp.split(" ")[1:2]
    return min(int(size[0]), READ_BYTES) if size and size[0].isdecimal() else READ_BYTES


def _fetched(example: Example, spec: InputSpec, skip: Callable[[Example], bool]) -> Photo | Seen:
    blob = fetch(example.image, READ_BYTES)
    stamp = example.stamp if example.stamp.split(" ")[0] == blob.etag else ""
    known = replace(example, sha256=hashlib.sha256(blob.data).hexdigest(), stamp=stamp)
    if skip(known):
        return Seen(known)
    with _decoding:
        return Photo(known, *examine(blob.data, spec))


def _reject(example: Example, code: str, error: TransferLiteError) -> Reject:
    return Reject(example.image, example.row, code, error.message)
