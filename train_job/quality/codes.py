"""Codes of rejected photos and of notes, with advice for each; ``docs/check.md`` lists them for users."""

from dataclasses import dataclass

from train_job.data.example import RejectedPhoto


@dataclass(frozen=True)
class Note(RejectedPhoto):
    """A note on a photo, row or class that is used all the same."""


REJECTED_ADVICE = {
    "unreadable": "save it again as JPEG or PNG, or remove it",
    "truncated": "upload it again: its end is missing",
    "not-image": "replace or remove it",
    "unsupported-format": "export it as JPEG or PNG",
    "missing-decoder": "install the package that the reason names, or save it as JPEG or PNG",
    "empty": "upload it again: it has no bytes",
    "too-small": "use a larger original",
    "overflow": "use other --weights if there are many; else remove it",
    "too-large": "scale it down to at most 50 million pixels and 64 MiB",
    "missing": "upload the photo, repair the link, or remove the row",
    "forbidden": "allow the job's role or user to read it",
    "unusable": "fix its name or its location, or remove it",
    "no-label": "complete the row or remove it; move a photo into a class folder",
    "bad-row": "fix the row: it cannot be read",
    "bad-split": "write train, validation or test, or leave the field empty",
    "bad-label": "write the label in characters that can be printed and seen",
    "unseen-label": "add training photos with this label, or remove it from the test photos",
    "bad-name": "rename the file",
    "not-photo-name": "nothing; if it is a photo, add its extension",
    "repeated-row": "nothing; an earlier row has the same content",
    "duplicate": "nothing; the same photo is used once",
    "conflicting-labels": "decide on one label and remove the others",
    "conflicting-splits": "decide on one split and remove the other rows",
}
"""Advice for each code of a rejected photo or row."""


NOTE_ADVICE = {
    "wrong-extension": "nothing; rename it for other programs",
    "animated": "nothing if the first frame shows the class",
    "cmyk": "compare its colours on screen: they are converted without the printer's profile",
    "16-bit": "nothing; it is scaled to 8 bits",
    "palette": "use the original if there is one: it has 256 colours at most",
    "exif-rotated": "nothing; it is rotated as its EXIF data says",
    "near-duplicate": "nothing; both stay in one split",
    "near-duplicate-labels": "compare both: one label is probably wrong",
    "leakage": "keep the two in one split, or remove one: the test is easier than it should be",
    "relabelled": "nothing if you changed the label on purpose; else restore it",
    "unlabelled": "add a row for it, or remove it",
    "similar-labels": "if they are one class, pass --merge-labels",
    "tiny-class": "add photos: there are too few to train and test on",
    "unbalanced": "add photos of this class, or use --class-weights balanced",
}
"""Advice for each code of a note."""


def advice_for(code: str) -> str:
    """Return the advice for a code, or general advice for the unknown code of a later release."""
    return REJECTED_ADVICE.get(code) or NOTE_ADVICE.get(code) or "see the reason; replace or remove it"
