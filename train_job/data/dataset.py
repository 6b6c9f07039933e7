"""Labelled photos, what they are for, and those that cannot be used."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from transferlite.errors import InputError


class Split(StrEnum):
    """What a photo is for: to learn from, to watch the learning, or to judge the result."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Example:
    """One labelled photo.

    Attributes:
        image: its URI.
        label: its class.
        row: where the label file names it, counted as :mod:`train_job.data.labels.formats` says; None from a folder.
        sha256: of its bytes, hexadecimal; empty until it was fetched.
        split: what the user wants it for; None where the choice is ours.
        stamp: ``Entry.stamp`` of what lies at the URI; empty where that is not known.
        confidence: how sure those were who labelled it, 0 to 1, where the label file says so.
    """

    image: str
    label: str
    row: int | None = None
    sha256: str = ""
    split: Split | None = None
    stamp: str = field(default="", compare=False)
    confidence: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RejectedPhoto:
    """One photo or row that is not used: a stable code, and the reason in words."""

    uri: str
    row: int | None
    code: str
    reason: str


_HARMLESS = {"repeated-row", "not-photo-name", "duplicate"}
"""Codes of what is left out and yet is no sign of bad data."""


@dataclass(frozen=True)
class Dataset:
    """The labelled photos, the class names in the order of the model's outputs, and what was left out.

    ``unlabelled`` are the URIs of photos below the root that no row of the label file names.
    """

    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    rejected: tuple[RejectedPhoto, ...] = ()
    unlabelled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(example.label for example in self.examples)
        for label in self.labels:
            if not counts[label]:
                raise InputError(f"no usable photo has the label {label!r}", hint=first_reason(self.rejected))
        if len(self.labels) < 2:
            only = f" ({self.labels[0]!r})" if self.labels else ""
            raise InputError(f"found {len(self.labels)} class{only}; at least two are needed")

    def of_those(self, usable: tuple[Example, ...], rejects: Sequence[RejectedPhoto]) -> "Dataset":
        """The data set of the usable photos; the others are remembered. Raises InputError if a class is then empty."""
        return replace(self, examples=usable, rejected=(*self.rejected, *rejects))

    def check_share(self, fail_over: float) -> None:
        """Raises InputError where more than the share ``fail_over`` (0 to 1) of the photos had to be left out."""
        rejects = [reject for reject in self.rejected if reject.code not in _HARMLESS]
        bad, everything = len(rejects), len(rejects) + len(self.examples)
        if bad > fail_over * everything:
            raise InputError(
                f"{bad} of {everything} photos cannot be used (limit {fail_over:.0%})",
                hint=f"the first: {rejects[0].uri}: {rejects[0].reason}; mend them or raise --fail-over",
            )

    def tested_on(self, held_out: "Dataset") -> "Dataset":
        """Both data sets as one, in which the photos of ``held_out`` are for testing and nothing else."""
        tests = tuple(replace(example, split=Split.TEST) for example in held_out.examples)
        examples, rejects = (*self.examples, *tests), (*self.rejected, *held_out.rejected)
        named = {example.image for example in examples} | {reject.uri for reject in rejects}
        without = dict.fromkeys((*self.unlabelled, *held_out.unlabelled))  # two label files may share one root
        unlabelled = tuple(uri for uri in without if uri not in named)
        return replace(self, examples=examples, rejected=rejects, unlabelled=unlabelled)


def rejected_summary(rejects: Sequence[RejectedPhoto]) -> str:
    """One line for what is left out (at least one photo or row), naming the first."""
    first = rejects[0]
    row = f" (row {first.row})" if first.row else ""
    more = f"; and {len(rejects) - 1} more, all in quarantine.csv" if len(rejects) > 1 else ""
    return f"left out {first.uri}{row}: {first.code}: {first.reason}{more}"


def first_reason(rejects: Sequence[RejectedPhoto]) -> str:
    """Words for what was left out first; empty if nothing was."""
    return f"the first of {len(rejects)} left out: {rejects[0].uri}: {rejects[0].reason}" if rejects else ""
