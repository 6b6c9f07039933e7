"""Notes on usable photos and a summary of the data, for ``transferlite check`` and for training."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from train_job.data.dataset import LabelledPhotos
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.labels.class_names import similar_labels
from train_job.data.photo_facts import PhotoFacts, PhotoTrait, has_wrong_extension
from train_job.quality.codes import Note
from train_job.quality.duplicates import NearDuplicates, photo_reference

TINY_CLASS = 10
"""Photos below which a class is noted: of fewer, an 80/10/10 split leaves no test photo or a single one."""
UNBALANCED_RATIO = 10
"""Ratio of the largest class to a class from which the smaller is noted: it is hardly ever predicted."""
_MAX_LISTED = 50  # groups, pairs and photos listed in the summary; notes.csv has all

_TRAIT_NOTES = {
    PhotoTrait.ANIMATED: ("animated", "it has several frames; the first is used"),
    PhotoTrait.CMYK: ("cmyk", "its colours are for print; they are converted to RGB"),
    PhotoTrait.DEEP: ("16-bit", "it has more than 8 bits per sample"),
    PhotoTrait.PALETTE: ("palette", "it has a colour palette"),
    PhotoTrait.ROTATED: ("exif-rotated", "it is rotated or mirrored as its EXIF data says"),
}


@dataclass(frozen=True)
class CheckResult:
    """Notes on the usable photos, and the summary of all photos."""

    notes: tuple[Note, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the content of ``check.json``."""
        return json.dumps(self.summary, indent=2, ensure_ascii=False) + "\n"


def find_problems(
    photos: LabelledPhotos,
    facts: Mapping[str, PhotoFacts],
    duplicates: NearDuplicates,
    splits: Mapping[str, Split],
    notes: Sequence[Note] = (),
) -> CheckResult:
    """Collect the notes on all photos and classes, and summarise the data.

    Args:
        photos: the usable photos, each content once, and the rejected ones.
        facts: photo facts by sha256, as far as they are known.
        duplicates: the near-duplicates among the photos.
        splits: split by sha256.
        notes: notes to add to, from earlier steps.
    """
    by_hash = {example.sha256: example for example in photos.examples}
    all_notes = [
        *notes,
        *_photo_notes(photos.examples, facts),
        *_duplicate_notes(duplicates, by_hash, splits),
        *(Note(uri, None, "unlabelled", "no row names it") for uri in photos.unlabelled),
        *_class_notes(photos),
    ]
    return CheckResult(tuple(all_notes), _summary(photos, facts, duplicates, splits, all_notes))


def _photo_notes(examples: Iterable[Example], facts: Mapping[str, PhotoFacts]) -> Iterator[Note]:
    for example in examples:
        known = facts.get(example.sha256)
        if known is None:
            continue
        if has_wrong_extension(example.image, known.format):
            yield Note(example.image, example.row, "wrong-extension", f"its content is {known.format}")
        for trait, (code, reason) in _TRAIT_NOTES.items():
            if trait in known.traits:
                yield Note(example.image, example.row, code, reason)


def _duplicate_notes(
    duplicates: NearDuplicates, by_hash: Mapping[str, Example], splits: Mapping[str, Split]
) -> Iterator[Note]:
    """Yield at most one note of each code for a photo, and no near-duplicate note for the first of a group."""
    seen: set[tuple[str, str]] = set()
    for hashes in duplicates.pairs:
        first, second = (by_hash[sha256] for sha256 in hashes)
        if first.label != second.label:
            yield from _unseen(seen, "near-duplicate-labels", first, f"looks like {_labelled(second)}")
            yield from _unseen(seen, "near-duplicate-labels", second, f"looks like {_labelled(first)}")
        else:
            yield from _unseen(seen, "near-duplicate", second, f"looks like {photo_reference(first)}")
        if splits[first.sha256] is not splits[second.sha256]:
            other, held_out = sorted((first, second), key=lambda example: list(Split).index(splits[example.sha256]))
            in_other = f"{photo_reference(other)} in {splits[other.sha256]}"
            yield from _unseen(seen, "leakage", held_out, f"is in {splits[held_out.sha256]} and looks like {in_other}")


def _unseen(seen: set[tuple[str, str]], code: str, example: Example, reason: str) -> Iterator[Note]:
    if (code, example.sha256) not in seen:
        seen.add((code, example.sha256))
        yield Note(example.image, example.row, code, reason)


def _labelled(example: Example) -> str:
    return f"{photo_reference(example)}, which is labelled {example.label!r}"


def _class_notes(photos: LabelledPhotos) -> Iterator[Note]:
    counts = Counter(example.label for example in photos.examples)
    largest, largest_count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    for pair in similar_labels(counts):
        yield Note("", None, "similar-labels", str(pair))
    for label in photos.labels:
        if counts[label] < TINY_CLASS:
            yield Note("", None, "tiny-class", f"the class {label!r} has {counts[label]} photos")
        if counts[label] * UNBALANCED_RATIO < largest_count:
            reason = f"{label!r} has {counts[label]} photos, {largest!r} has {largest_count}"
            yield Note("", None, "unbalanced", reason)


# -- summary ---------------------------------------------------------------------------------------------------------


def _summary(
    photos: LabelledPhotos,
    facts: Mapping[str, PhotoFacts],
    duplicates: NearDuplicates,
    splits: Mapping[str, Split],
    notes: Sequence[Note],
) -> dict[str, Any]:
    known = [facts[example.sha256] for example in photos.examples if example.sha256 in facts]
    by_hash = {example.sha256: example for example in photos.examples}
    return {
        "photos": len(photos.examples),
        "left_out": len(photos.rejected),
        "rejects": _by_code(photos.rejected),
        "skipped": dict(photos.skipped),
        "notes": _by_code(notes),
        "classes": _class_counts(photos, splits),
        "formats": dict(Counter(photo.format for photo in known).most_common()),
        "width": _spread(photo.width for photo in known),
        "height": _spread(photo.height for photo in known),
        "unknown": len(photos.examples) - len(known),
        "near_duplicates": _duplicate_summary(duplicates, by_hash, splits),
        "leakage": [
            {"image": note.uri, "row": note.row, "reason": note.reason} for note in notes if note.code == "leakage"
        ][:_MAX_LISTED],
    }


def _by_code(photos: Iterable[RejectedPhoto]) -> dict[str, int]:
    return dict(Counter(photo.code for photo in photos).most_common())


def _class_counts(photos: LabelledPhotos, splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    counts = Counter((example.label, splits[example.sha256]) for example in photos.examples)
    by_split = {label: {split.value: counts[label, split] for split in Split} for label in photos.labels}
    return {label: {"photos": sum(split_counts.values())} | split_counts for label, split_counts in by_split.items()}


def _spread(sides: Iterable[int]) -> dict[str, int] | None:
    """Return minimum, median and maximum of lengths in pixels; None if there are none."""
    values = list(sides)
    return {"min": min(values), "median": math.floor(median(values)), "max": max(values)} if values else None


def _duplicate_summary(
    duplicates: NearDuplicates, by_hash: Mapping[str, Example], splits: Mapping[str, Split]
) -> dict[str, Any]:
    largest = sorted(duplicates.groups, key=len, reverse=True)[:_MAX_LISTED]

    def entry(sha256: str) -> dict[str, str]:
        example = by_hash[sha256]
        return {"image": example.image, "label": example.label, "split": splits[sha256].value}

    return {
        "pairs": len(duplicates.pairs),
        "groups": len(duplicates.groups),
        "photos": sum(map(len, duplicates.groups)),
        "largest": [[entry(sha256) for sha256 in group[:_MAX_LISTED]] for group in largest],
    }


def count_by_code(photos: Iterable[RejectedPhoto]) -> str:
    """Format the number of photos by code: ``12 duplicate, 3 truncated``."""
    return ", ".join(f"{count} {code}" for code, count in _by_code(photos).items())
