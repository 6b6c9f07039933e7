"""A labelled photo, its split, and why a photo is rejected."""

from dataclasses import dataclass, field
from enum import StrEnum


class Split(StrEnum):
    """Use of a photo: fit the model, choose its settings, or evaluate it."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Example:
    """A labelled photo.

    Attributes:
        image: its URI.
        label: its class.
        row: its row in the label file, counted as :mod:`train_job.data.labels.formats` describes; None without a file.
        sha256: of its bytes, hexadecimal; empty until it is fetched.
        split: the split that the user chose; None if the job chooses.
        stamp: ``Entry.stamp`` of the object at the URI; empty if unknown.
    """

    image: str
    label: str
    row: int | None = None
    sha256: str = ""
    split: Split | None = None
    stamp: str = field(default="", compare=False)


@dataclass(frozen=True)
class RejectedPhoto:
    """A photo or row that is not used, with a stable code and a reason for people."""

    uri: str
    row: int | None
    code: str
    reason: str
