"""The feature store: rows of the frozen base by the content they came from, in a folder or in S3.

Below its root::

    spaces/<id>/space.json          what the rows depend on besides the photo
    spaces/<id>/rows/<name>.arrow   a part: columns sha256 (32 bytes) and row (float16), an Arrow IPC file
    spaces/<id>/keys/<name>.arrow   the part's sha256 column alone; written last: then the part exists
    photos/<name>.arrow             which content lay at which URI
    facts/<name>.arrow              what is known of a content without looking at it again

Any number of jobs may write, compact and read at once without a lock; ``parts.py`` says why.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa
from train_job.data.photo_facts import PhotoFacts
from train_job.store.digests import NONE, Digests, as_digests, places_in
from train_job.store.facts_index import FACTS_SCHEMA, NEWEST_FACTS, FactsIndex, facts_table
from train_job.store.feature_parts import PARTS_AT_ONCE, PartStore, column_of, digests_of
from train_job.store.photo_index import NEWEST, SCHEMA, PhotoIndex, PhotoRecord, to_table
from transferlite.errors import InputError, MissingStoreError, NotFoundError
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.storage.locations import open_store
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

Rows = NDArray[np.float16]
Places = NDArray[np.int64]

_PHOTO_PART = 16 * 2**20  # of these all are read, some at the same time


@dataclass(frozen=True)
class FeatureSpace:
    """What a row depends on besides the photo's bytes.

    Attributes:
        backbone: the architecture's name.
        weights_sha256: of the base's weights.
        input: the photo's size for the base.
        width: numbers in a row.
        layer: ``pool`` for the pooled output, else which layer's output.
        view: which augmented view.
        precision: the Keras dtype policy of the forward pass.
        decoder: the version of the decoder.
    """

    backbone: str
    weights_sha256: str
    input: InputSpec
    width: int
    layer: str = "pool"
    view: str = "plain"
    precision: str = "float32"
    decoder: int = DECODER_VERSION

    @property
    def id(self) -> str:
        """32 hexadecimal digits that two spaces share if they are equal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """The space as canonical JSON."""
        size = [self.input.height, self.input.width, self.input.resize]
        return json.dumps(vars(self) | {"input": size}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes) -> "FeatureSpace":
        """The inverse of :meth:`to_json`. Raises InputError."""
        try:
            fields = json.loads(text)
            return cls(**fields | {"input": InputSpec(*fields["input"])})
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"describes no space that this release knows ({error})") from None


@dataclass(frozen=True, eq=False)
class Known:
    """Which photos have a row in a space, and in which part: 36 bytes a row. ``in`` takes a hexadecimal sha256."""

    space: FeatureSpace
    digests: Digests
    part: NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digests)

    def __contains__(self, sha256: str) -> bool:
        digest = bytes.fromhex(sha256)
        place = int(np.searchsorted(self.digests, digest))
        return self.digests[place : place + 1].tobytes() == digest

    def parts_of(self, digests: Digests) -> NDArray[np.int32]:
        """The number of the part that has each digest's row; -1 where none has."""
        places = places_in(self.digests, digests)
        return np.append(self.part, np.int32(-1))[places]


def _say(warning: str) -> None:
    sys.stderr.write(f"warning: {warning}\n")


class FeatureStore:
    """The feature store below the root of a store. ``warn`` is told of what is damaged and left out."""

    def __init__(self, store: Store, warn: Callable[[str], None] = _say) -> None:
        self.store = store
        self.warn = warn
        self.photo_shelf = PartStore(store, (("photos/", SCHEMA),), warn, _PHOTO_PART, NEWEST)
        self.facts_shelf = PartStore(store, (("facts/", FACTS_SCHEMA),), warn, _PHOTO_PART, NEWEST_FACTS)
        self._lost: set[str] = set()

    @classmethod
    def open(cls, location: str, warn: Callable[[str], None] = _say) -> "FeatureStore":
        """The feature store at a location, which need not exist yet."""
        return cls(open_store(location), warn)

    # -- rows ----------------------------------------------------------------------------------------------------

    def add(self, space: FeatureSpace, hashes: Sequence[str], rows: Rows) -> str:
        """Write a part: ``rows`` ``[N, width]``, ``rows[i]`` being of the photo ``hashes[i]``; returns its name.

        Raises:
            InputError: a row has values that float16 cannot hold.
        """
        if rows.shape != (len(hashes), space.width) or rows.dtype != np.float16:
            raise ValueError(f"{rows.dtype} {rows.shape} are not float16 rows of {len(hashes)} photos in {space}")
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise InputError(
                f"the base's output for the photo with sha256 {hashes[int(finite.argmin())]} is not within float16",
                hint="use other --weights: with these the numbers explode",
            )
        digests, first = np.unique(as_digests(hashes), return_index=True)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows[first].reshape(-1)), space.width)
        self.store.put(f"spaces/{space.id}/space.json", space.to_json().encode())
        name = self.shelf(space).write(pa.table([column_of(digests), column], _schema(space)))
        self._lost.discard(name)
        return name

    def keys(self, space: FeatureSpace) -> Known:
        """Which rows there are, from the parts' keys alone."""
        found = self.shelf(space).indexes(lambda table: digests_of(table.column("sha256")), self._lost)
        part = np.repeat(np.arange(len(found), dtype=np.int32), [len(digests) for digests in found.values()])
        digests, first = np.unique(np.concatenate([NONE, *found.values()]), return_index=True)
        return Known(space, digests, part[first], tuple(found))

    def read(self, space: FeatureSpace, hashes: Sequence[str], out: Rows) -> list[str]:
        """Fill ``out[i]`` (``[N, width]``, perhaps a memory map) with the row of ``hashes[i]``, a few parts at a time.

        Returns the hashes that have no row. A part that is damaged or gone is not used, and its rows are not among
        this object's :meth:`keys` any more.
        """
        digests = as_digests(hashes)
        left = np.arange(len(digests))
        while len(left):
            known = self.keys(space)
            parts = known.parts_of(digests[left])
            wanted = {known.names[part]: left[parts == part] for part in np.unique(parts) if part >= 0}
            lost = self._fill(self.shelf(space), wanted, digests, out)
            left = np.concatenate([left[parts < 0], *(wanted[name] for name in lost)])
            if not lost:
                break
            self._lost.update(lost)  # now another part may have the same rows
        return [hashes[int(place)] for place in np.sort(left)]

    def _fill(self, shelf: PartStore, wanted: Mapping[str, Places], digests: Digests, out: Rows) -> list[str]:
        """Fill the places ``wanted[name]`` of ``out`` from each part; returns the parts that could not be had."""
        lost = []
        for name, table in zip(wanted, prefetch_map(shelf.read, wanted, PARTS_AT_ONCE, PARTS_AT_ONCE), strict=True):
            if table is None:
                lost.append(name)
                continue
            there = digests_of(table.column("sha256"))
            out[wanted[name]] = _rows_of(table)[places_in(there, digests[wanted[name]])]
        return lost

    def shelf(self, space: FeatureSpace) -> PartStore:
        """The parts of one space."""
        rows = _schema(space)
        files = ((f"spaces/{space.id}/rows/", rows), (f"spaces/{space.id}/keys/", pa.schema([rows.field("sha256")])))
        return PartStore(self.store, files, self.warn)

    def spaces(self) -> Iterator[FeatureSpace]:
        """Every space."""
        for name in self.store.children("spaces/"):
            key = f"spaces/{name}/space.json"
            try:
                yield FeatureSpace.from_json(self.store.get(key).data)
            except MissingStoreError:
                raise
            except NotFoundError:
                continue  # a folder that was emptied
            except InputError as error:
                self.warn(f"{join_uri(self.store.uri, key)}: {error}; it is left out")

    # -- photos --------------------------------------------------------------------------------------------------

    def add_photos(self, records: Sequence[PhotoRecord]) -> None:
        """Remember what photos turned out to be."""
        if records:
            self.photo_shelf.write(self.photo_shelf.merged([to_table(records)]))

    def photos(self) -> PhotoIndex:
        """The photo index."""
        return PhotoIndex(self.photo_shelf)

    def add_facts(self, facts: Mapping[str, PhotoFacts]) -> None:
        """Remember the facts of photos, by their hexadecimal sha256."""
        if facts:
            self.facts_shelf.write(self.facts_shelf.merged([facts_table(facts)]))

    def facts(self) -> FactsIndex:
        """All facts that are known."""
        return FactsIndex(self.facts_shelf)


def _schema(space: FeatureSpace) -> pa.Schema:
    row = pa.list_(pa.field("item", pa.float16()), space.width)
    return pa.schema([pa.field("sha256", pa.binary(32)), pa.field("row", row)])


def _rows_of(table: pa.Table) -> Rows:
    column = table.column("row").combine_chunks()
    rows: Rows = column.flatten().to_numpy(zero_copy_only=True).reshape(len(table), -1)
    return rows
