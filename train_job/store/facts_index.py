"""Photo facts by sha256 in the feature store, so that a known photo need not be decoded again.

They are separate from the photo index, which is by URI: a photo that was moved or copied keeps its facts, and older
feature stores without facts remain valid.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.perceptual_hash import SIGNATURE_BYTES
from train_job.data.photo_facts import FACTS_VERSION, PhotoFacts, PhotoTrait
from train_job.digests import Digests, digests_from_hex, indices_in
from train_job.store.feature_parts import PartStore, digests_from_column, digests_to_column

FACTS_SCHEMA = pa.schema(
    [
        ("sha256", pa.binary(32)),
        ("version", pa.int16()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("traits", pa.int16()),
        ("signature", pa.binary()),
    ]
)
PREFER_NEWEST_FACTS = (("version", "descending"),)


def facts_table(facts: Mapping[str, PhotoFacts]) -> pa.Table:
    """Convert facts by hexadecimal sha256 to a table of :data:`FACTS_SCHEMA`, in no order."""
    columns = [
        digests_to_column(digests_from_hex(list(facts))),
        [FACTS_VERSION] * len(facts),
        [photo.format for photo in facts.values()],
        [photo.width for photo in facts.values()],
        [photo.height for photo in facts.values()],
        [int(photo.traits) for photo in facts.values()],
        [photo.signature for photo in facts.values()],
    ]
    return pa.table(dict(zip(FACTS_SCHEMA.names, columns, strict=True)), FACTS_SCHEMA)


class FactsIndex:
    """Facts of the current :data:`FACTS_VERSION`, as a table of :data:`FACTS_SCHEMA` sorted by sha256."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self._digests = digests_from_column(self._table.column("sha256"))

    @classmethod
    def load(cls, parts: PartStore) -> "FactsIndex":
        """Read the facts in a feature store."""
        tables = parts.load_indexes(_current)
        return cls(parts.merge([FACTS_SCHEMA.empty_table(), *tables.values()]))

    @classmethod
    def of(cls, facts: Mapping[str, PhotoFacts]) -> "FactsIndex":
        """Return facts by hexadecimal sha256 as an index."""
        return cls(facts_table(facts).sort_by("sha256"))

    def with_new(self, facts: Mapping[str, PhotoFacts]) -> "FactsIndex":
        """Return these facts, and those of other photos by hexadecimal sha256."""
        if not facts:
            return self
        added = FactsIndex.of(facts)
        kept = self._table.filter(pa.array(added.rows(self._digests) < 0))
        return FactsIndex(pa.concat_tables([kept, added._table]).sort_by("sha256"))

    def __len__(self) -> int:
        return len(self._table)

    def rows(self, digests: Digests) -> NDArray[np.int64]:
        """Return the index of each photo's facts in :meth:`column`, ``[N]``; -1 if they are unknown."""
        return indices_in(self._digests, digests)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of :data:`FACTS_SCHEMA`."""
        return self._table.column(name)

    def signatures(self, digests: Digests) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the indices ``[M]`` of the photos with a known signature, and these ``[M, SIGNATURE_BYTES]``."""
        rows = self.rows(digests)
        known = np.flatnonzero(rows >= 0)
        column = self.column("signature").take(pa.array(rows[known])).combine_chunks()
        complete = np.array(pc.equal(pc.binary_length(column), SIGNATURE_BYTES), bool)
        values = column.filter(pa.array(complete))
        stacked = np.frombuffer(b"".join(values.to_pylist()), np.uint8).reshape(-1, SIGNATURE_BYTES)
        return known[complete], stacked

    def lookup(self, hashes: Sequence[str]) -> list[PhotoFacts | None]:
        """Return the facts of each hexadecimal sha256, or None."""
        indices = indices_in(self._digests, digests_from_hex(hashes))
        known = self._table.take(pa.array(indices[indices >= 0]))
        columns = (known.column(name).to_pylist() for name in ("format", "width", "height", "traits", "signature"))
        values = zip(*columns, strict=True)
        return [_facts(*next(values)) if index >= 0 else None for index in indices]


def _facts(format_name: str, width: int, height: int, traits: int, signature: bytes) -> PhotoFacts:
    signature = signature if len(signature) == SIGNATURE_BYTES else b""
    return PhotoFacts(format_name, width, height, PhotoTrait(traits), signature)


def _current(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table.column("version"), FACTS_VERSION))
