"""Labelled photos, their split, and the photos that were rejected."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

from train_job.data.example import RejectedPhoto, Split
from train_job.data.photos import Photos, decode_text
from transferlite.errors import InputError

_HARMLESS = {"repeated-row", "not-photo-name", "duplicate"}
"""Codes that do not count as unusable photos: nothing is lost by leaving these out."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Labelled photos that may be too few to train on.

    Attributes:
        examples: the usable photos.
        labels: the classes, in the order of the model's outputs.
        rejected: photos and rows that are not used.
        unlabelled: URIs of photos below the root that no row of the label file names.
        skipped: number of files and rows that are neither used nor rejected, by reason.
        remarks: how labels and folders were interpreted where that is not certain, for the log.
    """

    examples: Photos
    labels: tuple[str, ...]
    rejected: tuple[RejectedPhoto, ...] = ()
    unlabelled: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def check_rejected_share(self, limit: float) -> None:
        """Raise InputError if more than the share ``limit`` (0 to 1) of the photos cannot be used."""
        unusable = [rejected for rejected in self.rejected if rejected.code not in _HARMLESS]
        total = len(unusable) + len(self.examples)
        if len(unusable) > limit * total:
            raise InputError(
                f"{len(unusable)} of {total} photos cannot be used (limit {limit:.0%})",
                hint=f"fix them or raise --fail-over; the first is {unusable[0].uri}: {unusable[0].reason}",
            )

    def with_test_photos(self, held_out: "LabelledPhotos") -> Self:
        """Return both sets as one, with all photos of ``held_out`` in the test split."""
        examples = Photos.concatenate(self.examples, held_out.examples.with_split(Split.TEST))
        rejected = (*self.rejected, *held_out.rejected)
        candidates = dict.fromkeys((*self.unlabelled, *held_out.unlabelled))  # two label files may share one root
        if candidates:
            labelled = {*map(decode_text, examples.uris.to_pylist()), *(photo.uri for photo in rejected)}
            candidates = {uri: None for uri in candidates if uri not in labelled}
        skipped = Counter(self.skipped) + Counter(held_out.skipped)
        remarks = (*self.remarks, *held_out.remarks)
        return replace(
            self, examples=examples, rejected=rejected, unlabelled=tuple(candidates), skipped=skipped, remarks=remarks
        )


@dataclass(frozen=True)
class Dataset(LabelledPhotos):
    """Labelled photos to train on: at least two classes, each with a photo.

    Raises:
        InputError: a class has no photo, or there are fewer than two classes.
    """

    def __post_init__(self) -> None:
        counts = self.examples.label_counts()
        for label in self.labels:
            if label not in counts:
                raise InputError(f"no usable photo has the label {label!r}", hint=first_rejection(self.rejected))
        if len(self.labels) < 2:
            only = f" ({self.labels[0]!r})" if self.labels else ""
            message = f"found {len(self.labels)} class{only}; at least two are needed"
            raise InputError(message, hint=first_rejection(self.rejected))

    @classmethod
    def from_photos(cls, photos: LabelledPhotos) -> "Dataset":
        """Return the photos as a data set. Raises InputError if they are too few."""
        return cls(**{item.name: getattr(photos, item.name) for item in fields(photos)})

    def restrict_to(self, usable: Photos, rejected: Sequence[RejectedPhoto]) -> "Dataset":
        """Return the data set with only the ``usable`` photos, and ``rejected`` added to the rejected photos.

        Raises:
            InputError: a class has no photo left.
        """
        return replace(self, examples=usable, rejected=(*self.rejected, *rejected))


def rejected_summary(rejected: Sequence[RejectedPhoto]) -> str:
    """Summarise at least one rejected photo or row in one line: numbers by code, and the first."""
    first = rejected[0]
    row = f" (row {first.row})" if first.row else ""
    counts = Counter(photo.code for photo in rejected).most_common()
    total = f"rejected {len(rejected)} ({', '.join(f'{n} {code}' for code, n in counts)}), all in quarantine.csv: "
    return f"{total if len(rejected) > 1 else 'rejected '}{first.uri}{row}: {first.code}: {first.reason}"


def first_rejection(rejected: Sequence[RejectedPhoto]) -> str:
    """Describe the first rejected photo for a hint; empty if there is none."""
    return f"first of {len(rejected)} rejected: {rejected[0].uri}: {rejected[0].reason}" if rejected else ""
