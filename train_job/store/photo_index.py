"""The photo index: which content each URI had at a certain stamp, so that known photos are not fetched again."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.photos import Photos, encode_text, text_column
from train_job.digests import NO_DIGESTS, Digests, indices_in
from train_job.store.feature_parts import PartStore, digests_from_column, digests_to_column
from transferlite.images.input_spec import DECODER_VERSION

PHOTO_SCHEMA = pa.schema(
    [
        ("identity", pa.binary(32)),
        ("uri", pa.binary()),
        ("sha256", pa.binary(32)),
        ("decoder", pa.int32()),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
PREFER_NEWEST = (("decoder", "descending"), ("code", "ascending"))
"""Sort order of several records of a photo: the newest decoder first, then usable before rejected."""

_BLOCK = 2**14
_LOOKUP_COLUMNS = ["identity", "sha256", "decoder", "code", "reason"]


@dataclass(frozen=True)
class PhotoRecord:
    """Result of decoding a photo.

    Attributes:
        uri: of the photo.
        stamp: ``Entry.stamp`` of the object at the URI.
        sha256: of the photo's bytes, hexadecimal; empty for a rejected photo.
        decoder: version of the decoder.
        code: why the photo is rejected; empty for a usable photo.
        reason: the same for people.
    """

    uri: str
    stamp: str
    sha256: str
    decoder: int
    code: str = ""
    reason: str = ""


def photo_identities(uris: pa.LargeBinaryArray, stamps: pa.LargeBinaryArray) -> Digests:
    """Return the key of each photo in the index, ``[N]``: the sha256 of its URI and stamp."""
    parts = [NO_DIGESTS]
    for start in range(0, len(uris), _BLOCK):
        pairs = zip(uris.slice(start, _BLOCK).to_pylist(), stamps.slice(start, _BLOCK).to_pylist(), strict=True)
        parts.append(np.frombuffer(b"".join(sha256(b"%b\0%b" % pair).digest() for pair in pairs), "S32"))
    return np.concatenate(parts)


def photo_table(records: Sequence[PhotoRecord]) -> pa.Table:
    """Convert the records that have a stamp to a table of :data:`PHOTO_SCHEMA`, in no order."""
    records = [record for record in records if record.stamp]
    columns = [
        digests_to_column(
            photo_identities(text_column(item.uri for item in records), text_column(item.stamp for item in records))
        ),
        [encode_text(record.uri) for record in records],
        [bytes.fromhex(record.sha256) if not record.code else bytes(32) for record in records],
        [record.decoder for record in records],
        [record.code for record in records],
        [encode_text(record.reason).decode("utf-8", "replace") for record in records],
    ]
    return pa.table(dict(zip(PHOTO_SCHEMA.names, columns, strict=True)), PHOTO_SCHEMA)


class PhotoIndex:
    """Records of a feature store that are valid for this decoder, by URI and stamp; under 100 bytes each."""

    def __init__(self, parts: PartStore) -> None:
        tables = parts.load_indexes(_current)
        self._table = parts.merge(
            [PHOTO_SCHEMA.empty_table().select(_LOOKUP_COLUMNS), *tables.values()]
        ).combine_chunks()
        self._identities = digests_from_column(self._table.column("identity"))

    def __len__(self) -> int:
        return len(self._table)

    @property
    def rejected_count(self) -> int:
        """Number of rejected photos."""
        return len(self) - int(pc.sum(is_usable(self._table)).as_py() or 0)

    def find(self, photos: Photos) -> "KnownPhotos":
        """Look up photos by URI and stamp."""
        rows = indices_in(self._identities, photo_identities(photos.uris, photos.stamps))
        rejected = np.array(pc.not_equal(self._table.column("code"), ""), bool)
        is_rejected = np.append(rejected, False)[rows]
        digests = np.append(digests_from_column(self._table.column("sha256")), [b""])[rows]
        digests[is_rejected] = b""
        positions = np.flatnonzero(is_rejected)
        known = self._table.take(pa.array(rows[positions]))
        reasons = zip(known.column("code").to_pylist(), known.column("reason").to_pylist(), strict=True)
        return KnownPhotos(rows >= 0, digests, dict(zip(positions.tolist(), reasons, strict=True)))

    def lookup(self, uris: Sequence[str], stamps: Sequence[str]) -> list[PhotoRecord | None]:
        """Return each photo's record, or None.

        None means that the photo has no stamp or has changed, or that another version of the decoder rejected it.
        """
        matches = indices_in(self._identities, photo_identities(text_column(uris), text_column(stamps)))
        known = self._table.take(pa.array(matches[matches >= 0]))
        columns = (known.column(name).to_pylist() for name in ("sha256", "decoder", "code", "reason"))
        values = zip(*columns, strict=True)
        return [
            _record(uri, stamp, *next(values)) if index >= 0 else None
            for uri, stamp, index in zip(uris, stamps, matches, strict=True)
        ]


@dataclass(frozen=True)
class KnownPhotos:
    """What the index knows of photos ``[N]``.

    Attributes:
        known: whether the photo has a record. It has none if it has no stamp or has changed, or if another version of
            the decoder rejected it.
        digests: sha256 of usable photos; empty for others.
        rejected: code and reason of rejected photos, by position.
    """

    known: NDArray[np.bool_]
    digests: Digests
    rejected: dict[int, tuple[str, str]]


def _record(uri: str, stamp: str, sha256: bytes, decoder: int, code: str, reason: str) -> PhotoRecord:
    return PhotoRecord(uri, stamp, "" if code else sha256.hex(), decoder, code, reason)


def _current(table: pa.Table) -> pa.Table:
    """Select the records that are valid for this decoder: usable photos, and those that it rejected itself."""
    return table.select(_LOOKUP_COLUMNS).filter(
        pc.or_(is_usable(table), pc.equal(table.column("decoder"), DECODER_VERSION))
    )


def is_usable(table: pa.Table) -> pa.ChunkedArray:
    """Return which photos are usable, a boolean column ``[N]``."""
    return pc.equal(table.column("code"), "")
