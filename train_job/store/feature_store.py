"""The feature store: feature rows by the sha256 of their photo, in a folder or in S3.

Layout below its root::

    spaces/<id>/space.json          what the feature rows depend on besides the photo
    spaces/<id>/rows/<name>.arrow   a part, an Arrow IPC file: columns sha256 (32 bytes) and row (float16)
    spaces/<id>/keys/<name>.arrow   the part's sha256 column, written last: then the part exists
    photos/<name>.arrow             the photo index: sha256 by URI
    facts/<name>.arrow              photo facts by sha256
    conversions/<id>/<sha256>       files made of the backbone; see :mod:`train_job.store.conversion_store`

Many jobs may write, compact and read at once without a lock; see :mod:`train_job.store.feature_parts`.
"""

import hashlib
import json
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa
from train_job.data.photo_facts import PhotoFacts
from train_job.digests import NO_DIGESTS, Digests, digests_from_hex, digests_to_hex, indices_in
from train_job.store.facts_index import FACTS_SCHEMA, PREFER_NEWEST_FACTS, FactsIndex, facts_table
from train_job.store.feature_parts import PARTS_AT_ONCE, PartStore, digests_from_column, digests_to_column
from train_job.store.photo_index import PHOTO_SCHEMA, PREFER_NEWEST, PhotoIndex, PhotoRecord, photo_table
from transferlite.errors import InputError, MissingStoreError, NotFoundError
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.storage.locations import open_store
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

FeatureRows = NDArray[np.float16]
Indices = NDArray[np.int64]

_INDEX_PART_BYTES = 16 * 2**20  # smaller than parts of rows: readers hold several in memory


@dataclass(frozen=True)
class FeatureSpace:
    """Everything that a feature row depends on besides the photo's bytes.

    Attributes:
        backbone: name of the architecture.
        weights_sha256: of the backbone's weights.
        input: input size of the backbone.
        width: number of features in a row.
        layer: ``pool`` for the pooled output, else the name of the layer.
        view: name of the augmented view.
        precision: Keras dtype policy of the forward pass.
        engine: name and version of what ran the backbone.
        augmentation: version of the augmentation; 0 for the plain view.
        decoder: version of the decoder.
    """

    backbone: str
    weights_sha256: str
    input: InputSpec
    width: int
    layer: str = "pool"
    view: str = "plain"
    precision: str = "float32"
    engine: str = ""
    augmentation: int = 0
    decoder: int = DECODER_VERSION

    @property
    def id(self) -> str:
        """Identifier of 32 hexadecimal digits; equal spaces have the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Return the space as canonical JSON."""
        size = [self.input.height, self.input.width, self.input.resize]
        return json.dumps(vars(self) | {"input": size}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes) -> "FeatureSpace":
        """Invert :meth:`to_json`. Raises InputError."""
        try:
            fields = json.loads(text)
            return cls(**fields | {"input": InputSpec(*fields["input"])})
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"is not a feature space that this release supports ({error})") from None


@dataclass(frozen=True, eq=False)
class RowIndex:
    """Index of the photos that have a row in a space; ``in`` takes a hexadecimal sha256. It takes 36 bytes a row.

    Attributes:
        space: the space.
        digests: sha256s of the photos, sorted, ``[N]``.
        part: index into ``names`` of the part with each photo's row, ``[N]``.
        names: names of the parts.
    """

    space: FeatureSpace
    digests: Digests
    part: NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digests)

    def __contains__(self, sha256: str) -> bool:
        digest = bytes.fromhex(sha256)
        index = int(np.searchsorted(self.digests, digest))
        return self.digests[index : index + 1].tobytes() == digest

    def parts_of(self, digests: Digests) -> NDArray[np.int32]:
        """Return the index of the part with each digest's row, ``[M]``; -1 if there is none."""
        return np.append(self.part, np.int32(-1))[indices_in(self.digests, digests)]


def _print_warning(warning: str) -> None:
    sys.stderr.write(f"warning: {warning}\n")


class FeatureStore:
    """The feature store below the root of a store. ``warn`` receives a message for each damaged file."""

    def __init__(self, store: Store, warn: Callable[[str], None] = _print_warning) -> None:
        self.store = store
        self.warn = warn
        self.photo_parts = PartStore(store, (("photos/", PHOTO_SCHEMA),), warn, _INDEX_PART_BYTES, PREFER_NEWEST)
        self.facts_parts = PartStore(store, (("facts/", FACTS_SCHEMA),), warn, _INDEX_PART_BYTES, PREFER_NEWEST_FACTS)
        self._unreadable_parts: set[str] = set()

    @classmethod
    def open(cls, location: str, warn: Callable[[str], None] = _print_warning) -> "FeatureStore":
        """Open the feature store at a location, which need not exist yet."""
        return cls(open_store(location), warn)

    # -- rows ----------------------------------------------------------------------------------------------------

    def add(self, space: FeatureSpace, hashes: Sequence[str] | Digests, rows: FeatureRows) -> str:
        """Write the feature rows ``[N, width]`` of the photos ``hashes`` as a part; return its name.

        Raises:
            InputError: a row has values that float16 cannot represent.
        """
        if rows.shape != (len(hashes), space.width) or rows.dtype != np.float16:
            raise ValueError(f"{rows.dtype} {rows.shape} is not float16 {(len(hashes), space.width)} as {space} needs")
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            (overflowing,) = digests_to_hex(digests_from_hex(hashes)[[int(finite.argmin())]])
            raise InputError(
                f"the backbone's output for the photo with sha256 {overflowing} overflows float16",
                hint="use other --weights",
            )
        digests, first = np.unique(digests_from_hex(hashes), return_index=True)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows[first].reshape(-1)), space.width)
        self.store.put(f"spaces/{space.id}/space.json", space.to_json().encode())
        name = self.row_parts(space).write(pa.table([digests_to_column(digests), column], _schema(space)))
        self._unreadable_parts.discard(name)
        return name

    def row_index(self, space: FeatureSpace) -> RowIndex:
        """Read which photos have a row in a space, from the small key files only."""
        digests_by_part = self.row_parts(space).load_indexes(
            lambda table: digests_from_column(table.column("sha256")), self._unreadable_parts
        )
        lengths = [len(digests) for digests in digests_by_part.values()]
        part = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        digests, first = np.unique(np.concatenate([NO_DIGESTS, *digests_by_part.values()]), return_index=True)
        return RowIndex(space, digests, part[first], tuple(digests_by_part))

    def read(self, space: FeatureSpace, hashes: Sequence[str] | Digests, out: FeatureRows) -> list[str]:
        """Read the row of ``hashes[i]`` into ``out[i]`` (``[N, width]``, perhaps a memory map), a few parts at a time.

        Returns the hashes that have no row. If a part is damaged or gone, :meth:`row_index` ignores it from then on.
        """
        digests = digests_from_hex(hashes)
        remaining = np.arange(len(digests))
        while len(remaining):
            index = self.row_index(space)
            parts = index.parts_of(digests[remaining])
            wanted = {index.names[part]: remaining[parts == part] for part in np.unique(parts) if part >= 0}
            unreadable = self._read_parts(self.row_parts(space), wanted, digests, out)
            remaining = np.concatenate([remaining[parts < 0], *(wanted[name] for name in unreadable)])
            if not unreadable:
                break
            self._unreadable_parts.update(unreadable)  # another part may have the same rows: read the index again
        return digests_to_hex(digests[np.sort(remaining)])

    def _read_parts(
        self, parts: PartStore, wanted: Mapping[str, Indices], digests: Digests, out: FeatureRows
    ) -> list[str]:
        """Read the rows ``wanted[name]`` of ``out`` from each part; return the names of the unreadable parts."""
        unreadable = []
        for name, table in zip(wanted, prefetch_map(parts.read, wanted, PARTS_AT_ONCE, PARTS_AT_ONCE), strict=True):
            if table is None:
                unreadable.append(name)
                continue
            in_part = digests_from_column(table.column("sha256"))
            out[wanted[name]] = _rows_of(table)[indices_in(in_part, digests[wanted[name]])]
            mapped = getattr(out, "_mmap", None)
            if isinstance(mapped, mmap.mmap):
                mapped.madvise(mmap.MADV_DONTNEED)  # the rows are in the file; their pages need not stay in memory
        return unreadable

    def stream(self, space: FeatureSpace) -> Iterator[tuple[Digests, FeatureRows]]:
        """Yield the sha256s ``[M]`` and rows ``[M, width]`` of each part; a photo's row may be in two parts."""
        for table in self.row_parts(space).stream():
            yield digests_from_column(table.column("sha256")), _rows_of(table)

    def row_parts(self, space: FeatureSpace) -> PartStore:
        """Return the parts with the rows of a space."""
        rows = _schema(space)
        files = ((f"spaces/{space.id}/rows/", rows), (f"spaces/{space.id}/keys/", pa.schema([rows.field("sha256")])))
        return PartStore(self.store, files, self.warn)

    def spaces(self) -> Iterator[FeatureSpace]:
        """Yield every space; one that this release cannot read is reported and skipped."""
        for name in self.store.children("spaces/"):
            key = f"spaces/{name}/space.json"
            try:
                yield FeatureSpace.from_json(self.store.get(key).data)
            except MissingStoreError:
                raise
            except NotFoundError:
                continue  # the folder is being deleted
            except InputError as error:
                self.warn(f"{join_uri(self.store.uri, key)}: {error}; skipped")

    # -- photos --------------------------------------------------------------------------------------------------

    def add_photos(self, records: Sequence[PhotoRecord]) -> None:
        """Add records to the photo index."""
        if records:
            self.photo_parts.write(self.photo_parts.merge([photo_table(records)]))

    def photos(self) -> PhotoIndex:
        """Read the photo index."""
        return PhotoIndex(self.photo_parts)

    def add_facts(self, facts: Mapping[str, PhotoFacts]) -> None:
        """Add photo facts by hexadecimal sha256."""
        if facts:
            self.facts_parts.write(self.facts_parts.merge([facts_table(facts)]))

    def facts(self) -> FactsIndex:
        """Read all photo facts."""
        return FactsIndex.load(self.facts_parts)


def _schema(space: FeatureSpace) -> pa.Schema:
    row = pa.list_(pa.field("item", pa.float16()), space.width)
    return pa.schema([pa.field("sha256", pa.binary(32)), pa.field("row", row)])


def _rows_of(table: pa.Table) -> FeatureRows:
    column = table.column("row").combine_chunks()
    rows: FeatureRows = column.flatten().to_numpy(zero_copy_only=True).reshape(len(table), -1)
    return rows
