"""Delete feature rows, facts and index entries of photos that no longer exist."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from train_job.arrow import pa, pc
from train_job.data.photos import text_column
from train_job.digests import NO_DIGESTS, indices_in
from train_job.store.feature_parts import PartStore, digests_from_column, digests_to_column
from train_job.store.feature_store import FeatureSpace, FeatureStore
from train_job.store.photo_index import photo_identities
from transferlite.errors import InputError, NotFoundError
from transferlite.images.find_photos import is_junk
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry


@dataclass(frozen=True)
class PruneResult:
    """Number of deleted records and rows, or of those that a dry run would delete.

    Attributes:
        photos: records in the photo index before.
        lines: deleted records of the photo index.
        rows: deleted rows of each space.
    """

    photos: int
    lines: int
    rows: dict[FeatureSpace, int]


def prune(
    store: FeatureStore, images: Iterable[str], dry_run: bool = False, advance: Callable[[], None] = lambda: None
) -> PruneResult:
    """Delete the records of photos that no longer exist below any of ``images``, and rows and facts only they use.

    Other processes may read and compact at the same time without losing a row of an existing photo. If a job adds rows
    meanwhile, some of its photos may have to be extracted again. What a compaction merges meanwhile may remain until
    the next pruning. ``advance`` is called after each space, and after the photo index.

    Raises:
        InputError: no known photo exists, so ``images`` cannot be the locations that the jobs used.
        NotFoundError: one of ``images`` holds no files.
    """
    records = store.photo_parts.load_indexes(lambda table: table)
    is_kept = _existing_photo_filter(list(records.values()), images)
    total = sum(map(len, records.values()))
    if not total:
        return PruneResult(0, 0, {})  # without records, the photos of the rows are unknown
    if not any(pc.any(is_kept(table)).as_py() for table in records.values()):
        raise InputError(
            f"none of the {total} known photos exists there", hint="pass the --images of the training jobs"
        )
    digests = [digests_from_column(table.filter(is_kept(table)).column("sha256")) for table in records.values()]
    kept_digests = np.unique(np.concatenate([NO_DIGESTS, *digests]))

    def has_photo(keys: pa.Table) -> pa.Array:
        return pa.array(indices_in(kept_digests, digests_from_column(keys.column("sha256"))) >= 0)

    rows = {}
    for space in store.spaces():
        rows[space] = _prune_parts(store.row_parts(space), has_photo, dry_run)
        advance()
    _prune_parts(store.facts_parts, has_photo, dry_run)
    deleted = _prune_parts(store.photo_parts, is_kept, dry_run)
    advance()
    return PruneResult(total, deleted, rows)


def _existing_photo_filter(records: list[pa.Table], images: Iterable[str]) -> Callable[[pa.Table], pa.ChunkedArray]:
    """Return a function that selects the records of existing photos, without outdated ones where a current one exists.

    A record is current if its URI and stamp are listed now.
    """
    uris, stamps = _list_photos(images)
    listed_uris = text_column(uris)
    listed_identities = digests_to_column(photo_identities(listed_uris, text_column(stamps)))

    def is_current(table: pa.Table) -> pa.ChunkedArray:
        return pc.is_in(table.column("identity"), value_set=listed_identities)

    current = [table.column("uri").filter(is_current(table)) for table in records]
    current_uris = pa.chunked_array([chunk for uris in current for chunk in uris.chunks], pa.binary()).combine_chunks()

    def is_kept(table: pa.Table) -> pa.ChunkedArray:
        uri = table.column("uri")
        outdated = pc.and_not(pc.is_in(uri, value_set=current_uris), is_current(table))
        return pc.and_not(pc.is_in(uri, value_set=listed_uris.cast(pa.binary())), outdated)

    return is_kept


def _list_photos(images: Iterable[str]) -> tuple[list[str], list[str]]:
    """List the URIs and stamps of all files below the locations.

    Raises the error of a folder that cannot be listed: the records of its photos would be deleted.
    """
    uris: list[str] = []
    stamps: list[str] = []
    for location in images:
        store = open_store(location)
        skipped: list[SkippedEntry] = []
        entries = [(join_uri(store.uri, entry.key), entry.stamp) for entry in store.entries(on_skip=skipped.append)]
        for entry in skipped:
            if entry.hides_files and not is_junk(entry.key):
                raise entry.to_error(join_uri(store.uri, entry.key))
        if not entries:
            raise NotFoundError("holds no files", where=location, hint="check --images")
        uris += [uri for uri, _ in entries]
        stamps += [stamp for _, stamp in entries]
    return uris, stamps


def _prune_parts(parts: PartStore, is_kept: Callable[[pa.Table], pa.Array], dry_run: bool) -> int:
    """Delete the rows that ``is_kept`` does not select; return their number.

    ``is_kept`` takes the table in a part's last file and returns a boolean column ``[N]``.
    """
    deleted = 0
    if not dry_run:
        parts.tidy()
    for name, kept in parts.load_indexes(is_kept).items():
        remaining = int(pc.sum(kept).as_py() or 0)
        deleted += len(kept) - remaining
        if remaining == len(kept) or dry_run:
            continue
        table = parts.read(name) if remaining else None
        if table is not None:
            parts.replace([name], table.filter(kept))
        elif not remaining:
            parts.delete(name)
    return deleted


def delete_space(store: FeatureStore, space_id: str, dry_run: bool = False) -> int:
    """Delete a space with all its rows, its description last; return the number of bytes. Raises NotFoundError."""
    entries = list(store.store.entries(f"spaces/{space_id}/"))
    if not entries:
        raise NotFoundError(
            f"there is no space {space_id}",
            where=store.store.uri,
            hint="`transferlite features stats` lists the spaces",
        )
    for entry in entries if not dry_run else ():
        store.store.delete(entry.key)
    return sum(entry.size for entry in entries)


def delete_leftovers(store: FeatureStore, dry_run: bool = False) -> int:
    """Delete the incomplete parts that killed jobs left behind; return their number.

    No job may be writing: a part that it is about to complete would be lost, and its photos extracted again.
    """
    deleted = 0
    for space in store.spaces():
        parts = store.row_parts(space)
        for name in parts.sizes().keys() - set(parts.names()):
            deleted += 1
            if not dry_run:
                parts.delete(name)
    return deleted
