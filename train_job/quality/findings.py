"""Notes on usable photos and a summary of the data, for ``transferlite check`` and for training."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.dataset import LabelledPhotos
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.labels.class_names import similar_labels
from train_job.data.photo_facts import PhotoTrait, has_wrong_extension
from train_job.data.photos import SPLIT_CODES, Photos, decode_text
from train_job.data.split_table import SplitTable
from train_job.digests import digests_from_hex, indices_in
from train_job.quality.codes import Note
from train_job.quality.duplicates import NearDuplicates, photo_reference
from train_job.store.facts_index import FactsIndex

TINY_CLASS = 10
"""Photos below which a class is noted: of fewer, an 80/10/10 split leaves no test photo or a single one."""
UNBALANCED_RATIO = 10
"""Ratio of the largest class to a class from which the smaller is noted: it is hardly ever predicted."""
_EXTENSION_BYTES = 8  # at most that much of a URI tells its extension
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
    facts: FactsIndex,
    duplicates: NearDuplicates,
    splits: SplitTable,
    notes: Sequence[Note] = (),
) -> CheckResult:
    """Collect the notes on all photos and classes, and summarise the data.

    Args:
        photos: the usable photos, each content once, and the rejected ones.
        facts: photo facts, as far as they are known.
        duplicates: the near-duplicates among the photos.
        splits: split by sha256.
        notes: notes to add to, from earlier steps.
    """
    rows = facts.rows(photos.examples.digests)
    listed = _listed_photos(photos.examples, duplicates)
    all_notes = [
        *notes,
        *_photo_notes(photos.examples, facts, rows),
        *_duplicate_notes(duplicates, listed, splits),
        *(Note(uri, None, "unlabelled", "no row names it") for uri in photos.unlabelled),
        *_class_notes(photos),
    ]
    summary = _summary(photos, facts, rows, splits, all_notes)
    return CheckResult(tuple(all_notes), summary | {"near_duplicates": _duplicate_summary(duplicates, listed, splits)})


def _listed_photos(photos: Photos, duplicates: NearDuplicates) -> dict[str, Example]:
    """Return the near-duplicates by sha256."""
    hashes = list({sha256 for pair in duplicates.pairs for sha256 in pair} | {*chain(*duplicates.groups)})
    order = np.argsort(photos.digests)
    indices = order[indices_in(photos.digests[order], digests_from_hex(hashes))]
    return {example.sha256: example for example in photos.take(indices)}


def _photo_notes(photos: Photos, facts: FactsIndex, rows: NDArray[np.int64]) -> Iterator[Note]:
    """Yield the notes on photos; ``rows`` ``[N]`` are the indices of their facts."""
    known = np.flatnonzero(rows >= 0)
    traits = facts.column("traits").to_numpy()[rows[known]]
    formats = facts.column("format").take(pa.array(rows[known])).combine_chunks().dictionary_encode()
    names, codes = formats.dictionary.to_pylist(), formats.indices.to_numpy()
    is_wrong = np.fromiter(
        (
            _has_wrong_extension(extension, names[code])
            for extension, code in zip(_extensions(photos, known), codes, strict=True)
        ),
        bool,
        len(known),
    )
    noted = is_wrong | (traits != 0)
    columns = (codes[noted].tolist(), is_wrong[noted].tolist(), traits[noted].tolist())
    for example, code, wrong, trait_bits in zip(photos.take(known[noted]), *columns, strict=True):
        if wrong:
            yield Note(example.image, example.row, "wrong-extension", f"its content is {names[code]}")
        for trait, (note, reason) in _TRAIT_NOTES.items():
            if trait & trait_bits:
                yield Note(example.image, example.row, note, reason)


def _extensions(photos: Photos, indices: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the end of each photo's URI, long enough for the extension of a format."""
    ends = pc.binary_slice(photos.uris.take(pa.array(indices)), -_EXTENSION_BYTES)
    yield from ends.to_pylist()


@lru_cache(maxsize=2**16)
def _has_wrong_extension(end: bytes, format_name: str) -> bool:
    return has_wrong_extension(decode_text(end), format_name)


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
    counts = Counter(photos.examples.label_counts())
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
    facts: FactsIndex,
    rows: NDArray[np.int64],
    splits: SplitTable,
    notes: Sequence[Note],
) -> dict[str, Any]:
    known = pa.array(rows[rows >= 0])
    formats = facts.column("format").take(known).value_counts().to_pylist()
    return {
        "photos": len(photos.examples),
        "left_out": len(photos.rejected),
        "rejects": _by_code(photos.rejected),
        "skipped": dict(photos.skipped),
        "notes": _by_code(notes),
        "classes": _class_counts(photos, splits),
        "formats": dict(Counter({item["values"]: item["counts"] for item in formats}).most_common()),
        "width": _spread(facts.column("width").take(known).to_numpy()),
        "height": _spread(facts.column("height").take(known).to_numpy()),
        "unknown": len(photos.examples) - len(known),
        "leakage": [
            {"image": note.uri, "row": note.row, "reason": note.reason} for note in notes if note.code == "leakage"
        ][:_MAX_LISTED],
    }


def _by_code(photos: Iterable[RejectedPhoto]) -> dict[str, int]:
    return dict(Counter(photo.code for photo in photos).most_common())


def _class_counts(photos: LabelledPhotos, splits: SplitTable) -> dict[str, dict[str, int]]:
    codes = splits.lookup(photos.examples.digests)
    by_split = {split.value: photos.examples.label_counts(codes == SPLIT_CODES[split]) for split in Split}
    counts = {label: {name: by_split[name].get(label, 0) for name in by_split} for label in photos.labels}
    return {label: {"photos": sum(in_split.values())} | in_split for label, in_split in counts.items()}


def _spread(sides: NDArray[np.int32]) -> dict[str, int] | None:
    """Return minimum, median and maximum of lengths in pixels; None if there are none."""
    if not len(sides):
        return None
    return {"min": int(sides.min()), "median": int(np.median(sides)), "max": int(sides.max())}


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
