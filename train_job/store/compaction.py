"""Keeping a feature store small: merging its parts, and dropping what photos left that are not there any more."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from train_job.arrow import pa, pc
from train_job.store.digests import NONE, places_in
from train_job.store.feature_parts import PARTS_AT_ONCE, PartStore, column_of, digests_of
from train_job.store.feature_store import FeatureSpace, FeatureStore
from train_job.store.photo_index import encoded, identities
from transferlite.errors import InputError, NotFoundError
from transferlite.storage.locations import open_store
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import join_uri


@dataclass(frozen=True)
class Usage:
    """What a space holds: distinct photos, and the parts' number and bytes."""

    space: FeatureSpace
    rows: int
    parts: int
    bytes: int


def usage(store: FeatureStore, space: FeatureSpace) -> Usage:
    """Count what a space holds."""
    known = store.keys(space)
    sizes = store.shelf(space).sizes()
    return Usage(space, len(known), len(known.names), sum(sizes.get(name, 0) for name in known.names))


# -- compaction ------------------------------------------------------------------------------------------------------


def compact(shelf: PartStore, advance: Callable[[], None] = lambda: None) -> int:
    """Merge small parts to some of about ``shelf.size``; returns how many fewer there are.

    Others may write, read and compact meanwhile, and whatever dies, no row is lost. ``advance`` is called once for
    each of the :func:`small_parts`.
    """
    groups = _groups(shelf.tidy(), shelf.size)
    return sum(_merge(shelf, group, advance) for group in groups)


def small_parts(shelf: PartStore) -> int:
    """How many parts compaction would read."""
    return sum(map(len, _groups(shelf.sizes(), shelf.size)))


def _groups(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """The parts of less than ``most / 2`` bytes, the smallest first, in groups of at most ``most``."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name in sorted((name for name in sizes if sizes[name] < most // 2), key=lambda name: (sizes[name], name)):
        if filled + sizes[name] > most:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += sizes[name]
    return [group for group in groups if len(group) > 1]


def _merge(shelf: PartStore, names: list[str], advance: Callable[[], None]) -> int:
    tables = {}
    for name, table in zip(names, prefetch_map(shelf.read, names, PARTS_AT_ONCE, PARTS_AT_ONCE), strict=True):
        advance()
        if table is not None:  # else another compaction has it, or it is damaged
            tables[name] = table
    if len(tables) < 2:
        return 0
    shelf.replace(list(tables), shelf.merged(tables.values()))
    return len(tables) - 1


# -- pruning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pruned:
    """What left, or would: lines of the photo index out of ``photos``, and the number of rows of each space."""

    photos: int
    lines: int
    rows: dict[FeatureSpace, int]


def prune(
    store: FeatureStore, images: Iterable[str], dry_run: bool = False, advance: Callable[[], None] = lambda: None
) -> Pruned:
    """Drop what is known of photos that are not below any of ``images`` now, and the rows and facts of only those.

    No row is lost of a photo that stays, even while others read and compact. Where a job adds rows meanwhile, some of
    its photos may have to be forwarded again, and what a compaction merges meanwhile may stay until the next time.
    ``advance`` is called after each space, and after the photo index.

    Raises:
        InputError: not one known photo is there, so that ``images`` is not what the jobs were given.
        NotFoundError: one of ``images`` holds no files.
    """
    lines = store.photo_shelf.indexes(lambda table: table)
    stay = _stay(list(lines.values()), images)
    every = sum(map(len, lines.values()))
    if not every:
        return Pruned(0, 0, {})  # without an index nothing tells whose the rows are
    if not any(pc.any(stay(table)).as_py() for table in lines.values()):
        raise InputError(
            f"none of the {every} photos that are known is there", hint="name the images as the training jobs did"
        )
    contents = [digests_of(table.filter(stay(table)).column("sha256")) for table in lines.values()]
    kept = np.unique(np.concatenate([NONE, *contents]))

    def has_photo(keys: pa.Table) -> pa.Array:
        return pa.array(places_in(kept, digests_of(keys.column("sha256"))) >= 0)

    rows = {}
    for space in store.spaces():
        rows[space] = _prune(store.shelf(space), has_photo, dry_run)
        advance()
    _prune(store.facts_shelf, has_photo, dry_run)
    gone = _prune(store.photo_shelf, stay, dry_run)
    advance()
    return Pruned(every, gone, rows)


def _stay(lines: list[pa.Table], images: Iterable[str]) -> Callable[[pa.Table], pa.ChunkedArray]:
    """Which lines of the photo index are of photos that are there: as they are now, where that is known."""
    uris, stamps = _listed(images)
    there = pa.array([encoded(uri) for uri in uris], pa.binary())
    now = column_of(identities(uris, stamps))

    def current(table: pa.Table) -> pa.ChunkedArray:
        return pc.is_in(table.column("identity"), value_set=now)

    renewed = [table.column("uri").filter(current(table)) for table in lines]
    fresh = pa.chunked_array([chunk for column in renewed for chunk in column.chunks], pa.binary()).combine_chunks()

    def stay(table: pa.Table) -> pa.ChunkedArray:
        uri = table.column("uri")
        outdated = pc.and_not(pc.is_in(uri, value_set=fresh), current(table))
        return pc.and_not(pc.is_in(uri, value_set=there), outdated)

    return stay


def _listed(images: Iterable[str]) -> tuple[list[str], list[str]]:
    uris: list[str] = []
    stamps: list[str] = []
    for location in images:
        store = open_store(location)
        found = [(join_uri(store.uri, entry.key), entry.stamp) for entry in store.entries()]
        if not found:
            raise NotFoundError("holds no files", where=location, hint="mend --images")
        uris += [uri for uri, _ in found]
        stamps += [stamp for _, stamp in found]
    return uris, stamps


def _prune(shelf: PartStore, stay: Callable[[pa.Table], pa.Array], dry_run: bool) -> int:
    """Keep the rows that ``stay``, a boolean column for the columns of a part's last file; returns how many leave."""
    gone = 0
    if not dry_run:
        shelf.tidy()
    for name, kept in shelf.indexes(stay).items():
        left = int(pc.sum(kept).as_py() or 0)
        gone += len(kept) - left
        if left == len(kept) or dry_run:
            continue
        table = shelf.read(name) if left else None
        if table is not None:
            shelf.replace([name], table.filter(kept))
        elif not left:
            shelf.delete(name)
    return gone


def delete_space(store: FeatureStore, space_id: str, dry_run: bool = False) -> int:
    """Remove everything of a space, its description last; returns the number of bytes. Raises NotFoundError."""
    entries = list(store.store.entries(f"spaces/{space_id}/"))
    if not entries:
        raise NotFoundError(f"there is no space {space_id}", where=store.store.uri, hint="features stats lists them")
    for entry in entries if not dry_run else ():
        store.store.delete(entry.key)
    return sum(entry.size for entry in entries)


def delete_leftovers(store: FeatureStore, dry_run: bool = False) -> int:
    """Remove rows without keys, which a job leaves that died as it wrote them; returns the number of parts.

    Only while no job is writing: what another is about to complete would be lost, and forwarded again.
    """
    deleted = 0
    for space in store.spaces():
        shelf = store.shelf(space)
        for name in shelf.sizes().keys() - set(shelf.names()):
            deleted += 1
            if not dry_run:
                shelf.delete(name)
    return deleted
