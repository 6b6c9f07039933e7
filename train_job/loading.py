"""Photos from their URIs to arrays, fetched and decoded on threads, in order and in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from runtime.ahead import map_ahead
from runtime.errors import AccessDeniedError, NotFoundError, PhotoError, TransferLiteError
from runtime.imaging import READ_BYTES, RGB, InputSpec, decode
from runtime.locations import open_store, split_uri
from runtime.store import Store
from train_job.dataset import Example, Reject

WORKERS = 16
"""Threads that fetch and decode. Fetching waits for the network and Pillow releases the GIL, so more than the cores."""

_store = lru_cache(maxsize=4096)(open_store)


@dataclass(frozen=True)
class Photo:
    """A decoded photo: uint8 RGB ``[H, W, 3]`` of the model's input size; ``example`` now has its sha256."""

    example: Example
    image: RGB


def load_photos(examples: Iterable[Example], spec: InputSpec) -> Iterator[Photo | Reject]:
    """Each example's photo, in order, or why it cannot be used.

    Raises:
        UnavailableError: the store stopped answering; the photo is not to blame.
    """
    return map_ahead(lambda example: _load(example, spec), examples, WORKERS)


def _load(example: Example, spec: InputSpec) -> Photo | Reject:
    try:
        root, key = split_uri(example.image)
        store: Store = _store(root)
        data = store.get(key, READ_BYTES).data
        known = replace(example, sha256=hashlib.sha256(data).hexdigest())
        return Photo(known, decode(data, spec))
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


def _reject(example: Example, code: str, error: TransferLiteError) -> Reject:
    return Reject(example.image, example.row, code, error.message)
