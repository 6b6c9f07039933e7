"""Codes of rejected photos and of notes: what each means and what to do. ``docs/check.md`` lists them for users."""

from dataclasses import dataclass

from train_job.data.dataset import RejectedPhoto


@dataclass(frozen=True)
class Note(RejectedPhoto):
    """Something about a photo, row or class that is used all the same."""


REJECTS = {
    "unreadable": "save it again as JPEG or PNG, or remove it",
    "truncated": "upload it again: its end is missing",
    "not-image": "replace or remove it",
    "empty": "upload it again: it has no bytes",
    "too-small": "use a larger original",
    "too-large": "scale it down to at most 50 million pixels and 64 MiB",
    "missing": "upload the photo or remove the row",
    "forbidden": "let the job's role read it",
    "unusable": "mend its name or its place in the store",
    "no-label": "complete the row or remove it",
    "bad-row": "mend the row: it cannot be read",
    "bad-split": "write train, validation or test, or leave the field empty",
    "bad-label": "write the label in printable characters",
    "bad-name": "rename the file",
    "not-photo-name": "nothing; give it an image's ending if it is one",
    "repeated-row": "nothing; the row says the same as an earlier one",
    "duplicate": "nothing; the same photo is used once",
    "conflicting-labels": "decide on one label and remove the others",
}
"""What is left out, and what to do."""


NOTES = {
    "wrong-extension": "nothing; rename it for other programs",
    "animated": "nothing if the first picture shows the class",
    "cmyk": "compare its colours on screen: they are converted without the printer's profile",
    "16-bit": "nothing; its high byte is used",
    "palette": "use the original if there is one: it has 256 colours at most",
    "exif-rotated": "nothing; it is turned upright as its EXIF says",
    "near-duplicate": "nothing; both stay in one split",
    "near-duplicate-labels": "look at both: one label is probably wrong",
    "leakage": "keep the two in one split, or remove one: the test is easier than it should be",
    "unlabelled": "add a row for it, or remove it",
    "tiny-class": "add photos: too few to learn from and to judge by",
    "unbalanced": "add photos of this class, or use --class-weights balanced",
}
"""What is used all the same, and what to do."""


def what_to_do(code: str) -> str:
    """The advice for a code; for one that a later release wrote, a general one."""
    return REJECTS.get(code) or NOTES.get(code) or "see the reason; replace or remove it"
