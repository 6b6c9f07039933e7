"""Find duplicates: photos with the same bytes, which are used once, and near-duplicates, which stay in one split."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.perceptual_hash import FREQUENCIES, SIGNATURE_BYTES
from train_job.data.photos import Photos
from train_job.data.split_table import SplitTable
from train_job.digests import Digests, digests_to_hex
from train_job.quality.codes import Note
from train_job.store.facts_index import FactsIndex

MAX_LOW_BITS, MAX_HIGH_BITS = 5, 8
"""Maximum different signs among the 64 lowest frequencies, and among the next 64, of near-duplicates.

Chosen on 1,400 photos of pets and flowers. Their copies at quality 50, half the size or 5% brighter differ in at most 5
and 4 signs; copies at a third of the size and quality 40 in at most 5 and 7. The 979,300 pairs of different photos
differ in more than 12, and in at least 14.
"""
MAX_COLOUR_DIFFERENCE = 12.0
"""Maximum mean difference of the grid's colours, in levels of 0 to 255; 5% more brightness yields at most 9."""

BAND_BITS = (13, 13, 13, 13, 12)
"""Widths of the bands of the 64 lowest frequencies; two signatures that differ in at most four agree in some band."""

MAX_SUCCESSORS = 512
"""Maximum successors to compare a photo with in each band."""
MAX_PAIRS_PER_PHOTO = 8
"""Stop searching a band after this many pairs per photo, so that a million white pages take bounded time."""

MAX_GROUP = 50
"""Maximum photos in a group; a quarter of their class is another limit.

A longer chain, such as the frames of a film, is divided, and pairs in two splits are reported as leakage.
"""

Signatures = NDArray[np.uint8]
Pairs = NDArray[np.int64]
"""Indices of pairs, ``[P, 2]``, sorted, the smaller index first."""


# -- near-duplicates -------------------------------------------------------------------------------------------------


def stack_signatures(signatures: Sequence[bytes]) -> Signatures:
    """Convert signatures of equal length to uint8 ``[N, SIGNATURE_BYTES]``."""
    return np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, SIGNATURE_BYTES)


def near_duplicate_pairs(signatures: Signatures) -> Pairs:
    """Find the pairs of near-duplicates among ``signatures`` ``[N, SIGNATURE_BYTES]``."""
    rows = np.ascontiguousarray(signatures).view(f"V{SIGNATURE_BYTES}").reshape(-1)
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    equal = np.stack([first[inverse], np.arange(len(rows))], axis=1)
    pairs = [equal[equal[:, 0] != equal[:, 1]], first[_similar_pairs(signatures[first])]]
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _similar_pairs(signatures: Signatures) -> Pairs:
    """Find the pairs among distinct signatures."""
    signs = np.ascontiguousarray(signatures[:, : FREQUENCIES // 8]).view(">u8").astype(np.uint64)  # [N, 2]
    colours = signatures[:, FREQUENCIES // 8 :].astype(np.int16)
    similar = [np.zeros((0, 2), np.int64)]
    for band in _bands(signs[:, 0]):
        for pairs in _pairs_in_band(signs, band):
            difference = np.abs(colours[pairs[:, 0]] - colours[pairs[:, 1]]).mean(axis=1)
            similar.append(pairs[difference <= MAX_COLOUR_DIFFERENCE])
    return np.concatenate(similar)


def _bands(low_signs: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    bands, start = [], 0
    for width in BAND_BITS:
        bands.append((low_signs >> np.uint64(start)) & np.uint64((1 << width) - 1))
        start += width
    return bands


def _pairs_in_band(signs: NDArray[np.uint64], band: NDArray[np.uint64]) -> list[Pairs]:
    """Find pairs with an equal band and similar signs, by comparing each photo with its successors in the band."""
    order = np.lexsort((signs[:, 0], band))
    band, signs = band[order], signs[order]
    pairs: list[Pairs] = []
    candidates = np.arange(len(order))
    for step in range(1, MAX_SUCCESSORS + 1):
        candidates = candidates[: np.searchsorted(candidates, len(order) - step)]
        candidates = candidates[band[candidates] == band[candidates + step]]
        if not len(candidates) or sum(map(len, pairs)) > MAX_PAIRS_PER_PHOTO * len(order):
            break
        similar = candidates[_count_bits(signs[candidates, 0] ^ signs[candidates + step, 0]) <= MAX_LOW_BITS]
        similar = similar[_count_bits(signs[similar, 1] ^ signs[similar + step, 1]) <= MAX_HIGH_BITS]
        pairs.append(np.stack([order[similar], order[similar + step]], axis=1))
    return pairs


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # NumPy 2.0 or later
        return np.asarray(np.bitwise_count(values), np.uint8)
    counts = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    return np.asarray(counts, np.uint8)


def group_pairs(pairs: Pairs, labels: Sequence[Hashable]) -> list[list[int]]:
    """Group the indices of near-duplicates into sorted groups of at least two.

    A chain of pairs is one group up to the size that :data:`MAX_GROUP` describes. A longer chain is divided into groups
    of photos that are near-duplicates of the group's first photo.
    """
    class_sizes = Counter(labels)
    neighbours: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs.tolist():
        neighbours[first].append(second)
        neighbours[second].append(first)
    groups = []
    for chain in _chains(neighbours):
        max_photos = min(MAX_GROUP, *(max(2, class_sizes[labels[index]] // 4) for index in chain))
        groups += [chain] if len(chain) <= max_photos else _divide(chain, neighbours, max_photos)
    return [group for group in groups if len(group) > 1]


def _chains(neighbours: dict[int, list[int]]) -> list[list[int]]:
    """Return the connected components, each sorted."""
    seen: set[int] = set()
    chains = []
    for start in sorted(neighbours):
        if start in seen:
            continue
        seen.add(start)
        chain = [start]
        for index in chain:  # the loop appends to the chain
            new = [neighbour for neighbour in neighbours[index] if neighbour not in seen]
            seen.update(new)
            chain += new
        chains.append(sorted(chain))
    return chains


def _divide(chain: list[int], neighbours: dict[int, list[int]], max_photos: int) -> list[list[int]]:
    remaining = set(chain)
    groups = []
    for first in chain:
        if first in remaining:
            others = (index for index in sorted(set(neighbours[first])) if index in remaining and index != first)
            group = [first, *others]
            remaining.difference_update(group)
            bounds = pairwise([*range(0, len(group), max_photos), len(group)])
            groups += [group[start:end] for start, end in bounds]
    return groups


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates by their sha256: the pairs, and the groups to keep in one split."""

    pairs: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


def near_duplicates(photos: Sequence[Example], facts: FactsIndex, existing: SplitTable) -> NearDuplicates:
    """Find the near-duplicates among photos with known facts. The order of the photos does not matter.

    The photos in ``existing`` come first in their pairs and groups, so new photos join them.
    """
    columns = Photos.of(photos)
    digests, first = np.unique(columns.digests, return_index=True)
    known, signatures = facts.signatures(digests)
    order = np.lexsort((known, existing.lookup(digests[known]) < 0))
    digests, first = digests[known[order]], first[known[order]]
    pairs = near_duplicate_pairs(signatures[order])
    involved = np.unique(pairs)
    hashes = dict(zip(involved.tolist(), digests_to_hex(digests[involved]), strict=True))
    groups = group_pairs(pairs, columns.label_codes[first].tolist())
    return NearDuplicates(
        tuple((hashes[left], hashes[right]) for left, right in pairs.tolist()),
        tuple(tuple(hashes[index] for index in group) for group in groups),
    )


def near_duplicates_of(photos: Digests, others: Digests, facts: FactsIndex) -> Digests:
    """Find those of ``photos`` that are near-duplicates of any of ``others``, sorted, as far as facts are known."""
    if not len(photos) or not len(others):
        return photos[:0]
    digests = np.unique(np.concatenate([photos, others]))
    known, signatures = facts.signatures(digests)
    pairs = near_duplicate_pairs(signatures)
    left, right = known[np.concatenate([pairs, pairs[:, ::-1]])].T
    found = np.isin(digests[left], photos) & np.isin(digests[right], others)
    return np.unique(digests[left[found]])


# -- exact duplicates ------------------------------------------------------------------------------------------------

_PREFERRED_SPLITS = (Split.TEST, Split.VALIDATION, Split.TRAIN, None)
"""Which of equal photos to use, by its split: a photo of the user's test set remains a test photo."""


@dataclass(frozen=True)
class DeduplicationResult:
    """Photos with distinct content, the rejected copies, and notes on the photos that are used."""

    examples: Photos
    rejected: tuple[RejectedPhoto, ...]
    notes: tuple[Note, ...]


def deduplicate(examples: Sequence[Example]) -> DeduplicationResult:
    """Keep one of the photos with the same content; reject all of them if their labels differ."""
    photos = Photos.of(examples)
    _, first, content, counts = np.unique(photos.digests, return_index=True, return_inverse=True, return_counts=True)
    copies: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(counts[content] > 1).tolist():
        copies[int(first[content[index]])].append(index)
    used = np.sort(first)
    kept = dict.fromkeys(copies, -1)
    rejected: list[RejectedPhoto] = []
    notes: list[Note] = []
    for start, indices in copies.items():
        group = [photos[index] for index in indices]
        if len({copy.label for copy in group}) > 1:
            rejected += [_reject_conflicting(copy, group) for copy in group]
            continue
        best = min(range(len(group)), key=lambda position: _PREFERRED_SPLITS.index(group[position].split))
        kept[start] = indices[best]
        others = [copy for position, copy in enumerate(group) if position != best]
        rejected += [_reject_duplicate(copy, group[best]) for copy in others]
        notes += [_note_leakage(group[best], copy) for copy in others if _purpose(copy) is not _purpose(group[best])]
    if kept:
        starts = np.array(list(kept), np.int64)
        used[np.searchsorted(used, starts)] = list(kept.values())
    return DeduplicationResult(photos.take(used[used >= 0]), tuple(rejected), tuple(notes))


def _purpose(example: Example) -> Split:
    return example.split or Split.TRAIN


def _reject_duplicate(copy: Example, used: Example) -> RejectedPhoto:
    return RejectedPhoto(copy.image, copy.row, "duplicate", f"the same photo as {photo_reference(used)}")


def _reject_conflicting(copy: Example, copies: Sequence[Example]) -> RejectedPhoto:
    other = next(candidate for candidate in copies if candidate.label != copy.label)
    reason = f"the same photo is labelled {copy.label!r} here and {other.label!r} as {photo_reference(other)}"
    return RejectedPhoto(copy.image, copy.row, "conflicting-labels", reason)


def _note_leakage(used: Example, copy: Example) -> Note:
    reason = f"the same photo is in {_purpose(copy)} as {photo_reference(copy)}, which is rejected"
    return Note(used.image, used.row, "leakage", reason)


def photo_reference(example: Example) -> str:
    """Return a photo's URI, with its row in the label file if there is one."""
    return example.image + (f" (row {example.row})" if example.row else "")
