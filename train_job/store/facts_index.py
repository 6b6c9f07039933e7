"""The facts of photos by their content, kept beside the rows: a known photo need not be looked at again.

They lie apart from the photo index, by sha256: a photo that was moved or copied is known by its facts as well, and
feature stores from before there were facts stay as they are. Of their photos nothing is said.
"""

from collections.abc import Mapping, Sequence

from train_job.arrow import pa, pc
from train_job.data.photo_facts import FACTS_VERSION, SIGNATURE_BYTES, PhotoFacts, PhotoTrait
from train_job.store.digests import as_digests, places_in
from train_job.store.feature_parts import PartStore, column_of, digests_of

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
NEWEST_FACTS = (("version", "descending"),)


def facts_table(facts: Mapping[str, PhotoFacts]) -> pa.Table:
    """The facts by hexadecimal sha256 as a table, in no order."""
    columns = [
        column_of(as_digests(list(facts))),
        [FACTS_VERSION] * len(facts),
        [one.format for one in facts.values()],
        [one.width for one in facts.values()],
        [one.height for one in facts.values()],
        [int(one.traits) for one in facts.values()],
        [one.signature for one in facts.values()],
    ]
    return pa.table(dict(zip(FACTS_SCHEMA.names, columns, strict=True)), FACTS_SCHEMA)


class FactsIndex:
    """All facts of a feature store that hold for this release."""

    def __init__(self, shelf: PartStore) -> None:
        tables = shelf.indexes(_current)
        self._table = shelf.merged([FACTS_SCHEMA.empty_table(), *tables.values()]).combine_chunks()
        self._digests = digests_of(self._table.column("sha256"))

    def __len__(self) -> int:
        return len(self._table)

    def lookup(self, hashes: Sequence[str]) -> list[PhotoFacts | None]:
        """The facts of each photo by its hexadecimal sha256; None where they are not known."""
        places = places_in(self._digests, as_digests(hashes))
        found = self._table.take(pa.array(places[places >= 0]))
        columns = (found.column(name).to_pylist() for name in ("format", "width", "height", "traits", "signature"))
        values = zip(*columns, strict=True)
        return [_facts(*next(values)) if place >= 0 else None for place in places]

    def of(self, hashes: Sequence[str]) -> dict[str, PhotoFacts]:
        """The facts by sha256 of those photos of which they are known."""
        found = zip(hashes, self.lookup(hashes), strict=True)
        return {sha256: facts for sha256, facts in found if facts is not None}


def _facts(form: str, width: int, height: int, traits: int, signature: bytes) -> PhotoFacts:
    return PhotoFacts(form, width, height, PhotoTrait(traits), signature if len(signature) == SIGNATURE_BYTES else b"")


def _current(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table.column("version"), FACTS_VERSION))
