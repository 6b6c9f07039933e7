"""What is known of photos without looking at them again: which content lay at a URI when it had a certain stamp."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from train_job.arrow import pa, pc
from train_job.store.digests import Digests, places_in
from train_job.store.feature_parts import PartStore, column_of, digests_of
from transferlite.images.input_spec import DECODER_VERSION

SCHEMA = pa.schema(
    [
        ("identity", pa.binary(32)),
        ("uri", pa.binary()),
        ("sha256", pa.binary(32)),
        ("decoder", pa.int32()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
NEWEST = (("decoder", "descending"), ("code", "ascending"))
"""Of several records of a photo, what the newest decoder said; and that it is good before that it is not."""

_NEEDED = ["identity", "sha256", "decoder", "code", "reason"]


@dataclass(frozen=True)
class PhotoRecord:
    """What a photo turned out to be.

    Attributes:
        uri: where it lay.
        stamp: ``Entry.stamp`` of what lay there: ETag, size and version.
        sha256: of its bytes, hexadecimal; empty for a photo that cannot be used.
        decoder: the version of the decoder that looked at it.
        code: why it cannot be used; empty for a good photo.
        reason: the same in words.
    """

    uri: str
    stamp: str
    sha256: str
    decoder: int
    code: str = ""
    reason: str = ""


def identities(uris: Iterable[str], stamps: Iterable[str]) -> Digests:
    """What each photo is found by, ``[N]``: the sha256 of its URI and stamp."""
    pairs = zip(uris, stamps, strict=True)
    return np.frombuffer(b"".join(hashlib.sha256(encoded(f"{uri}\0{stamp}")).digest() for uri, stamp in pairs), "S32")


def encoded(text: str) -> bytes:
    """A URI as the index keeps it; file names need not be Unicode."""
    return text.encode("utf-8", "surrogateescape")


def to_table(records: Sequence[PhotoRecord]) -> pa.Table:
    """The records that have a stamp, as a table of :data:`SCHEMA`, in no order."""
    records = [one for one in records if one.stamp]
    columns = [
        column_of(identities([one.uri for one in records], [one.stamp for one in records])),
        [encoded(one.uri) for one in records],
        [bytes.fromhex(one.sha256) if not one.code else bytes(32) for one in records],
        [one.decoder for one in records],
        [one.code for one in records],
        [encoded(one.reason).decode("utf-8", "replace") for one in records],
    ]
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA)


class PhotoIndex:
    """All records of a feature store that hold for this decoder, found by URI and stamp; under 100 bytes each."""

    def __init__(self, shelf: PartStore) -> None:
        tables = shelf.indexes(_current)
        self._table = shelf.merged([SCHEMA.empty_table().select(_NEEDED), *tables.values()]).combine_chunks()
        self._identities = digests_of(self._table.column("identity"))

    def __len__(self) -> int:
        return len(self._table)

    @property
    def rejects(self) -> int:
        """How many of the photos cannot be used."""
        return len(self) - int(pc.sum(good(self._table)).as_py() or 0)

    def lookup(self, uris: Sequence[str], stamps: Sequence[str]) -> list[PhotoRecord | None]:
        """The record of each photo that is known as it is now.

        None for a photo without a stamp, one that changed, and one that another version of the decoder refused.
        """
        places = places_in(self._identities, identities(uris, stamps))
        found = self._table.take(pa.array(places[places >= 0]))
        columns = (found.column(name).to_pylist() for name in ("sha256", "decoder", "code", "reason"))
        values = zip(*columns, strict=True)
        return [
            _record(uri, stamp, *next(values)) if place >= 0 else None
            for uri, stamp, place in zip(uris, stamps, places, strict=True)
        ]


def _record(uri: str, stamp: str, sha256: bytes, decoder: int, code: str, reason: str) -> PhotoRecord:
    return PhotoRecord(uri, stamp, "" if code else sha256.hex(), decoder, code, reason)


def _current(table: pa.Table) -> pa.Table:
    """The records that a job of this decoder believes, without what it does not need."""
    return table.select(_NEEDED).filter(pc.or_(good(table), pc.equal(table.column("decoder"), DECODER_VERSION)))


def good(table: pa.Table) -> pa.ChunkedArray:
    """Which photos can be used, a boolean column ``[N]``."""
    return pc.equal(table.column("code"), "")
