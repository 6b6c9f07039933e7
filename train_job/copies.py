"""The same photo more than once: in the same bytes, which are used once, and as near-duplicates, kept in one split."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from train_job.codes import Note
from train_job.dataset import Example, Reject, Split
from train_job.facts import Facts
from train_job.near_duplicates import as_array, groups, near_pairs

_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN, None)
"""Of equal photos, the one that is used: what the user tests on stays a test."""


@dataclass(frozen=True)
class Once:
    """The photos with each content once; the copies that are left out; what there is to say of those that are not."""

    examples: tuple[Example, ...]
    rejects: tuple[Reject, ...]
    notes: tuple[Note, ...]


def once_each(examples: Sequence[Example]) -> Once:
    """Each photo once. Of one that has two labels no copy is used, for none is known to be right."""
    by_content: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_content[example.sha256].append(example)
    used: list[Example] = []
    rejects: list[Reject] = []
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
    return Once(tuple(used), tuple(rejects), tuple(notes))


def _purpose(example: Example) -> Split:
    return example.split or Split.TRAIN


def _repeated(copy: Example, used: Example) -> Reject:
    return Reject(copy.image, copy.row, "duplicate", f"the same photo as {named(used)}")


def _disputed(copy: Example, copies: Sequence[Example]) -> Reject:
    other = next(one for one in copies if one.label != copy.label)
    reason = f"the same photo is labelled {copy.label!r} here and {other.label!r} as {named(other)}"
    return Reject(copy.image, copy.row, "conflicting-labels", reason)


def _leaked(used: Example, copy: Example) -> Note:
    reason = f"the same photo is given for {_purpose(copy)} as {named(copy)}, which is left out"
    return Note(used.image, used.row, "leakage", reason)


def named(example: Example) -> str:
    """A photo in words."""
    return example.image + (f" (row {example.row})" if example.row else "")


@dataclass(frozen=True)
class Near:
    """Near-duplicates: the pairs, and the groups to keep in one split, by their sha256."""

    pairs: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


def near_duplicates(examples: Sequence[Example], facts: Mapping[str, Facts], old: Collection[str]) -> Near:
    """The near-duplicates among photos whose facts are known. The order of the examples does not matter.

    ``old`` (sha256s) come first in what they belong to: a new photo joins them, and not they it.
    """
    labels = {one.sha256: one.label for one in examples if one.sha256 in facts and facts[one.sha256].signature}
    hashes = sorted(labels, key=lambda sha256: (sha256 not in old, sha256))
    pairs = near_pairs(as_array([facts[sha256].signature for sha256 in hashes]))
    together = groups(pairs, [labels[sha256] for sha256 in hashes])
    return Near(
        tuple((hashes[one], hashes[other]) for one, other in pairs.tolist()),
        tuple(tuple(hashes[place] for place in group) for group in together),
    )
