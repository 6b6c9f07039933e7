"""The same photo more than once: in the same bytes, which are used once, and as near-duplicates, kept in one split."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from train_job.data.dataset import Example, RejectedPhoto, Split
from train_job.data.photo_facts import FREQUENCIES, SIGNATURE_BYTES, PhotoFacts
from train_job.quality.codes import Note

LOW, HIGH = 5, 8
"""How many signs of the 64 lowest frequencies, and of the 64 above them, may differ.

Of 1,400 photos of pets and flowers, by which these were chosen, and their copies at quality 50, half the size or 5 %
brighter: 5 and 4 at most; at a third of the size and quality 40: 5 and 7. Of the 979,300 pairs of different ones: more
than 12, and 14 at least.
"""
COLOUR = 12.0
"""How many levels of 255 the mean colours of the fields may differ by on average; 5 % of brightness are up to 9."""

BANDS = (13, 13, 13, 13, 12)
"""The bits of the lowest 64 that are compared as a whole; of two signatures that differ in four, some band is equal."""

CROWD = 512
"""With so many of the next in one band a photo is compared, where more agree."""
ENOUGH = 8
"""Where a band has had so many pairs a photo, no more are looked for: a million white pages come to an end as well."""

LARGEST = 50
"""So many photos stay together at most, and no more than a quarter of their class: a longer chain, such as a film in
frames, is cut, and what is then in two splits is reported."""

Signatures = NDArray[np.uint8]
Pairs = NDArray[np.int64]
"""Places ``[P, 2]``, the smaller first, in order."""


def as_array(signatures: Sequence[bytes]) -> Signatures:
    """Signatures of equal length as uint8 ``[N, SIGNATURE_BYTES]``."""
    return np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, SIGNATURE_BYTES)


def near_pairs(signatures: Signatures) -> Pairs:
    """The pairs of near-duplicates among ``signatures`` ``[N, SIGNATURE_BYTES]``."""
    rows = np.ascontiguousarray(signatures).view(f"V{SIGNATURE_BYTES}").reshape(-1)
    _, first, same = np.unique(rows, return_index=True, return_inverse=True)
    equal = np.stack([first[same], np.arange(len(rows))], axis=1)
    found = [equal[equal[:, 0] != equal[:, 1]], first[_close_pairs(signatures[first])]]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _close_pairs(signatures: Signatures) -> Pairs:
    """The pairs among distinct signatures."""
    signs = np.ascontiguousarray(signatures[:, : FREQUENCIES // 8]).view(">u8").astype(np.uint64)  # [N, 2]
    colours = signatures[:, FREQUENCIES // 8 :].astype(np.int16)
    found = [np.zeros((0, 2), np.int64)]
    for band in _bands(signs[:, 0]):
        for pairs in _in_one_band(signs, band):
            apart = np.abs(colours[pairs[:, 0]] - colours[pairs[:, 1]]).mean(axis=1)
            found.append(pairs[apart <= COLOUR])
    return np.concatenate(found)


def _bands(low: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    bands, start = [], 0
    for width in BANDS:
        bands.append((low >> np.uint64(start)) & np.uint64((1 << width) - 1))
        start += width
    return bands


def _in_one_band(signs: NDArray[np.uint64], band: NDArray[np.uint64]) -> list[Pairs]:
    """Pairs that agree in the band and are close in their signs: each photo with the next ones of its band, in turn."""
    order = np.lexsort((signs[:, 0], band))
    band, signs = band[order], signs[order]
    pairs: list[Pairs] = []
    here = np.arange(len(order))
    for step in range(1, CROWD + 1):
        here = here[: np.searchsorted(here, len(order) - step)]
        here = here[band[here] == band[here + step]]
        if not len(here) or sum(map(len, pairs)) > ENOUGH * len(order):
            break
        close = here[_differ(signs[here, 0], signs[here + step, 0]) <= LOW]
        close = close[_differ(signs[close, 1], signs[close + step, 1]) <= HIGH]
        pairs.append(np.stack([order[close], order[close + step]], axis=1))
    return pairs


def _differ(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """In how many bits each two differ."""
    return _count_bits(one ^ other)


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # from NumPy 2.0
        return np.asarray(np.bitwise_count(values), np.uint8)
    counts = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    return np.asarray(counts, np.uint8)


def groups(pairs: Pairs, labels: Sequence[str]) -> list[list[int]]:
    """The places of photos that belong together, in groups of at least two, in order.

    A chain of pairs is one group up to the size that :data:`LARGEST` gives. A longer one is cut: each group is then of
    photos that are near to its first, and no larger than that.
    """
    counts: dict[str, int] = defaultdict(int)
    for label in labels:
        counts[label] += 1
    near: dict[int, list[int]] = defaultdict(list)
    for one, other in pairs.tolist():
        near[one].append(other)
        near[other].append(one)
    found = []
    for chain in _chains(near):
        most = min(LARGEST, *(max(2, counts[labels[place]] // 4) for place in chain))
        found += [chain] if len(chain) <= most else _cut(chain, near, most)
    return [group for group in found if len(group) > 1]


def _chains(near: dict[int, list[int]]) -> list[list[int]]:
    """What hangs together, however far apart its ends are."""
    seen: set[int] = set()
    chains = []
    for start in sorted(near):
        if start in seen:
            continue
        seen.add(start)
        chain = [start]
        for place in chain:  # which grows meanwhile
            fresh = [other for other in near[place] if other not in seen]
            seen.update(fresh)
            chain += fresh
        chains.append(sorted(chain))
    return chains


def _cut(chain: list[int], near: dict[int, list[int]], most: int) -> list[list[int]]:
    left = set(chain)
    parts = []
    for first in chain:
        if first in left:
            part = [first, *(other for other in sorted(set(near[first])) if other in left and other != first)]
            left.difference_update(part)
            parts += [part[start:end] for start, end in pairwise([*range(0, len(part), most), len(part)])]
    return parts


_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN, None)
"""Of equal photos, the one that is used: what the user tests on stays a test."""


@dataclass(frozen=True)
class Deduplicated:
    """The photos with each content once; the copies that are left out; what there is to say of those that are not."""

    examples: tuple[Example, ...]
    rejects: tuple[RejectedPhoto, ...]
    notes: tuple[Note, ...]


def deduplicate(examples: Sequence[Example]) -> Deduplicated:
    """Each photo once. Of one that has two labels no copy is used, for none is known to be right."""
    by_content: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_content[example.sha256].append(example)
    used: list[Example] = []
    rejects: list[RejectedPhoto] = []
    notes: list[Note] = []
    for copies in by_content.values():
        if len({copy.label for copy in copies}) > 1:
            rejects += [_disputed(copy, copies) for copy in copies]
            continue
        first = min(copies, key=lambda copy: _FIRST.index(copy.split))
        others = [copy for copy in copies if copy is not first]
        used.append(first)
        rejects += [_repeated(copy, first) for copy in others]
        notes += [_leaked(first, copy) for copy in others if _purpose(copy) is not _purpose(first)]
    return Deduplicated(tuple(used), tuple(rejects), tuple(notes))


def _purpose(example: Example) -> Split:
    return example.split or Split.TRAIN


def _repeated(copy: Example, used: Example) -> RejectedPhoto:
    return RejectedPhoto(copy.image, copy.row, "duplicate", f"the same photo as {named(used)}")


def _disputed(copy: Example, copies: Sequence[Example]) -> RejectedPhoto:
    other = next(one for one in copies if one.label != copy.label)
    reason = f"the same photo is labelled {copy.label!r} here and {other.label!r} as {named(other)}"
    return RejectedPhoto(copy.image, copy.row, "conflicting-labels", reason)


def _leaked(used: Example, copy: Example) -> Note:
    reason = f"the same photo is given for {_purpose(copy)} as {named(copy)}, which is left out"
    return Note(used.image, used.row, "leakage", reason)


def named(example: Example) -> str:
    """A photo in words."""
    return example.image + (f" (row {example.row})" if example.row else "")


@dataclass(frozen=True)
class NearDuplicates:
    """Near-duplicates: the pairs, and the groups to keep in one split, by their sha256."""

    pairs: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


def near_duplicates(
    examples: Sequence[Example], facts: Mapping[str, PhotoFacts], old: Collection[str]
) -> NearDuplicates:
    """The near-duplicates among photos whose facts are known. The order of the examples does not matter.

    ``old`` (sha256s) come first in what they belong to: a new photo joins them, and not they it.
    """
    labels = {one.sha256: one.label for one in examples if one.sha256 in facts and facts[one.sha256].signature}
    hashes = sorted(labels, key=lambda sha256: (sha256 not in old, sha256))
    pairs = near_pairs(as_array([facts[sha256].signature for sha256 in hashes]))
    together = groups(pairs, [labels[sha256] for sha256 in hashes])
    return NearDuplicates(
        tuple((hashes[one], hashes[other]) for one, other in pairs.tolist()),
        tuple(tuple(hashes[place] for place in group) for group in together),
    )
