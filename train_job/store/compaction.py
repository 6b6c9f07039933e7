"""Keep a feature store small: measure it, and merge its parts into larger ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from train_job.store.feature_parts import PARTS_AT_ONCE, PartStore
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.storage.prefetch import prefetch_map


@dataclass(frozen=True)
class SpaceUsage:
    """Size of a space: distinct photos, number of parts, and bytes."""

    space: FeatureSpace
    rows: int
    parts: int
    bytes: int


def space_usage(store: FeatureStore, space: FeatureSpace) -> SpaceUsage:
    """Measure the size of a space."""
    index = store.row_index(space)
    sizes = store.row_parts(space).sizes()
    return SpaceUsage(space, len(index), len(index.names), sum(sizes.get(name, 0) for name in index.names))


# -- compaction ------------------------------------------------------------------------------------------------------


def compact(parts: PartStore, advance: Callable[[], None] = lambda: None) -> int:
    """Merge small parts into parts of about ``parts.target_bytes``; return how many fewer there are.

    Other processes may write, read and compact at the same time, and a killed process loses no row. ``advance`` is
    called once for each of the parts that :func:`count_small_parts` counts.
    """
    groups = _groups(parts.tidy(), parts.target_bytes)
    return sum(_merge(parts, group, advance) for group in groups)


def count_small_parts(parts: PartStore) -> int:
    """Count the parts that compaction would read."""
    return sum(map(len, _groups(parts.sizes(), parts.target_bytes)))


def _groups(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Group the parts smaller than ``max_bytes / 2``, the smallest first, into groups of at most ``max_bytes``."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name in sorted((name for name in sizes if sizes[name] < max_bytes // 2), key=lambda name: (sizes[name], name)):
        if filled + sizes[name] > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += sizes[name]
    return [group for group in groups if len(group) > 1]


def _merge(parts: PartStore, names: list[str], advance: Callable[[], None]) -> int:
    tables = {}
    for name, table in zip(names, prefetch_map(parts.read, names, PARTS_AT_ONCE, PARTS_AT_ONCE), strict=True):
        advance()
        if table is not None:  # else another process has merged it, or it is damaged
            tables[name] = table
    if len(tables) < 2:
        return 0
    parts.replace(list(tables), parts.merge(tables.values()))
    return len(tables) - 1


# -- pruning ---------------------------------------------------------------------------------------------------------
