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
from train_job.digests import digests_from_hex, indices_in
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
    """Facts in a feature store that have the current :data:`FACTS_VERSION`."""

    def __init__(self, parts: PartStore) -> None:
        tables = parts.load_indexes(_current)
        self._table = parts.merge([FACTS_SCHEMA.empty_table(), *tables.values()]).combine_chunks()
        self._digests = digests_from_column(self._table.column("sha256"))

    def __len__(self) -> int:
        return len(self._table)

    def lookup(self, hashes: Sequence[str]) -> list[PhotoFacts | None]:
        """Return the facts of each hexadecimal sha256, or None."""
        indices = indices_in(self._digests, digests_from_hex(hashes))
        known = self._table.take(pa.array(indices[indices >= 0]))
        columns = (known.column(name).to_pylist() for name in ("format", "width", "height", "traits", "signature"))
        values = zip(*columns, strict=True)
        return [_facts(*next(values)) if index >= 0 else None for index in indices]

    def contains(self, hashes: Sequence[str]) -> NDArray[np.bool_]:
        """Return whether the facts of each hexadecimal sha256 are known, ``[N]``."""
        found: NDArray[np.bool_] = indices_in(self._digests, digests_from_hex(hashes)) >= 0
        return found

    def known(self, hashes: Sequence[str]) -> dict[str, PhotoFacts]:
        """Return the facts by hexadecimal sha256, without unknown photos."""
        facts_by_hash = zip(hashes, self.lookup(hashes), strict=True)
        return {sha256: facts for sha256, facts in facts_by_hash if facts is not None}


def _facts(format_name: str, width: int, height: int, traits: int, signature: bytes) -> PhotoFacts:
    signature = signature if len(signature) == SIGNATURE_BYTES else b""
    return PhotoFacts(format_name, width, height, PhotoTrait(traits), signature)


def _current(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table.column("version"), FACTS_VERSION))
