"""What there is to say of the data: notes on what is used, and a summary, the same in training and before it."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from train_job.data.dataset import Dataset, Example, RejectedPhoto, Split
from train_job.data.photo_facts import PhotoFacts, PhotoTrait, wrong_extension
from train_job.quality.codes import Note
from train_job.quality.duplicates import NearDuplicates, named

TINY = 10
"""A class of fewer photos has, at 80/10/10, none or one to be judged by."""
UNBALANCED = 10
"""A class with so many times fewer photos than the largest is hardly ever guessed."""
_SHOWN = 50  # groups, pairs and files that the summary names; notes.csv has all

_TRAITS = {
    PhotoTrait.ANIMATED: ("animated", "it holds several pictures, of which the first is used"),
    PhotoTrait.CMYK: ("cmyk", "its colours are those of print, and are converted"),
    PhotoTrait.DEEP: ("16-bit", "it has more than 8 bits a sample"),
    PhotoTrait.PALETTE: ("palette", "its colours are those of a palette"),
    PhotoTrait.ROTATED: ("exif-rotated", "it lies on its side or is mirrored, and is turned"),
}


@dataclass(frozen=True)
class CheckResult:
    """What was found: of the photos that are used, and in numbers of all of them."""

    notes: tuple[Note, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The content of ``check.json``."""
        return json.dumps(self.summary, indent=2, ensure_ascii=False) + "\n"


def find_problems(
    dataset: Dataset,
    facts: Mapping[str, PhotoFacts],
    near: NearDuplicates,
    splits: Mapping[str, Split],
    notes: Sequence[Note] = (),
) -> CheckResult:
    """Everything there is to note.

    Args:
        dataset: the usable photos, each content once, and what was left out.
        facts: by sha256, of the photos of which they are known.
        near: the near-duplicates among them.
        splits: of each photo's sha256.
        notes: what was noted before.
    """
    by_hash = {one.sha256: one for one in dataset.examples}
    found = [
        *notes,
        *_of_photos(dataset.examples, facts),
        *_of_pairs(near, by_hash, splits),
        *(Note(uri, None, "unlabelled", "no row names it") for uri in dataset.unlabelled),
        *_of_classes(dataset),
    ]
    return CheckResult(tuple(found), _summary(dataset, facts, near, splits, found))


def _of_photos(examples: Iterable[Example], facts: Mapping[str, PhotoFacts]) -> Iterator[Note]:
    for one in examples:
        known = facts.get(one.sha256)
        if known is None:
            continue
        if wrong_extension(one.image, known.format):
            yield Note(one.image, one.row, "wrong-extension", f"it is {known.format}, whatever its name says")
        for trait, (code, reason) in _TRAITS.items():
            if trait in known.traits:
                yield Note(one.image, one.row, code, reason)


def _of_pairs(near: NearDuplicates, by_hash: Mapping[str, Example], splits: Mapping[str, Split]) -> Iterator[Note]:
    """At most one note of each code for a photo, and the first photo of each group has none."""
    seen: set[tuple[str, str]] = set()
    for hashes in near.pairs:
        first, second = (by_hash[sha256] for sha256 in hashes)
        if first.label != second.label:
            yield from _new(seen, "near-duplicate-labels", first, f"looks like {_labelled(second)}")
            yield from _new(seen, "near-duplicate-labels", second, f"looks like {_labelled(first)}")
        else:
            yield from _new(seen, "near-duplicate", second, f"looks like {named(first)}")
        if splits[first.sha256] is not splits[second.sha256]:
            held, other = sorted((first, second), key=lambda one: list(Split).index(splits[one.sha256]), reverse=True)
            reason = f"is for {splits[held.sha256]} and looks like {named(other)}, for {splits[other.sha256]}"
            yield from _new(seen, "leakage", held, reason)


def _new(seen: set[tuple[str, str]], code: str, one: Example, reason: str) -> Iterator[Note]:
    if (code, one.sha256) not in seen:
        seen.add((code, one.sha256))
        yield Note(one.image, one.row, code, reason)


def _labelled(one: Example) -> str:
    return f"{named(one)}, which is labelled {one.label!r}"


def _of_classes(dataset: Dataset) -> Iterator[Note]:
    counts = Counter(one.label for one in dataset.examples)
    largest, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    for label in dataset.labels:
        if counts[label] < TINY:
            yield Note("", None, "tiny-class", f"the class {label!r} has {counts[label]} photos")
        if counts[label] * UNBALANCED < most:
            yield Note("", None, "unbalanced", f"{label!r} has {counts[label]} photos, {largest!r} has {most}")


# -- in numbers ------------------------------------------------------------------------------------------------------


def _summary(
    dataset: Dataset,
    facts: Mapping[str, PhotoFacts],
    near: NearDuplicates,
    splits: Mapping[str, Split],
    notes: Sequence[Note],
) -> dict[str, Any]:
    known = [facts[one.sha256] for one in dataset.examples if one.sha256 in facts]
    by_hash = {one.sha256: one for one in dataset.examples}
    return {
        "photos": len(dataset.examples),
        "left_out": len(dataset.rejected),
        "rejects": _by_code(dataset.rejected),
        "notes": _by_code(notes),
        "classes": _classes(dataset, splits),
        "formats": dict(Counter(one.format for one in known).most_common()),
        "width": _spread(one.width for one in known),
        "height": _spread(one.height for one in known),
        "unknown": len(dataset.examples) - len(known),
        "near_duplicates": _near(near, by_hash, splits),
        "leakage": [_finding(one) for one in notes if one.code == "leakage"][:_SHOWN],
    }


def _by_code(found: Iterable[RejectedPhoto]) -> dict[str, int]:
    return dict(Counter(one.code for one in found).most_common())


def _classes(dataset: Dataset, splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    counts = Counter((one.label, splits[one.sha256]) for one in dataset.examples)
    shares = {label: {split.value: counts[label, split] for split in Split} for label in dataset.labels}
    return {label: {"photos": sum(share.values())} | share for label, share in shares.items()}


def _spread(sides: Iterable[int]) -> dict[str, int] | None:
    """The least, middle and most of some pixels; None where none is known."""
    values = list(sides)
    return {"min": min(values), "median": math.floor(median(values)), "max": max(values)} if values else None


def _near(near: NearDuplicates, by_hash: Mapping[str, Example], splits: Mapping[str, Split]) -> dict[str, Any]:
    largest = sorted(near.groups, key=len, reverse=True)[:_SHOWN]

    def shown(sha256: str) -> dict[str, str]:
        one = by_hash[sha256]
        return {"image": one.image, "label": one.label, "split": splits[sha256].value}

    return {
        "pairs": len(near.pairs),
        "groups": len(near.groups),
        "photos": sum(map(len, near.groups)),
        "largest": [[shown(sha256) for sha256 in group[:_SHOWN]] for group in largest],
    }


def _finding(one: RejectedPhoto) -> dict[str, Any]:
    return {"image": one.uri, "row": one.row, "reason": one.reason}


def count_by_code(found: Iterable[RejectedPhoto]) -> str:
    """``12 duplicate, 3 truncated``: how many of each code."""
    return ", ".join(f"{count} {code}" for code, count in _by_code(found).items())
