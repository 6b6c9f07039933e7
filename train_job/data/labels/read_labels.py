"""Read the labelled photos: from a label file, or from one folder per class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from train_job.data.dataset import Dataset, LabelledPhotos, first_rejection, rejected_summary
from train_job.data.example import RejectedPhoto, Split
from train_job.data.labels.class_names import LabelMerge, similar_labels
from train_job.data.labels.match_photos import to_nfc
from train_job.data.labels.read_folders import read_folders
from train_job.data.labels.read_rows import read_rows
from train_job.data.photos import SPLIT_CODES
from train_job.options import TrainOptions
from train_job.progress import Reporter
from transferlite.errors import InputError
from transferlite.inference.prediction import UNKNOWN

_TRAINED = (SPLIT_CODES[None], SPLIT_CODES[Split.TRAIN])
_MAX_LISTED = 50
"""Classes to print with their counts, and pairs of similar labels."""


def read_dataset(
    images: str,
    labels: str | None = None,
    x_col: str | None = None,
    y_col: str | None = None,
    classes: Sequence[str] = (),
    split_col: str | None = None,
) -> Dataset:
    """Read the labelled photos below ``images``, as :func:`read_photos` does.

    Raises:
        NotFoundError: the label file or the root of the photos does not exist.
        InputError: the label file cannot be read, no photo is usable, or fewer than two classes remain.
    """
    return to_dataset(read_photos(images, labels, (x_col, y_col, split_col), classes), labels, images)


def read_photos(
    images: str,
    labels: str | None,
    columns: tuple[str | None, str | None, str | None] = (None, None, None),
    classes: Sequence[str] = (),
    merge: LabelMerge | None = None,
    training_labels: Sequence[str] | None = None,
) -> LabelledPhotos:
    """Read the labelled photos below ``images``, an ``s3://`` prefix or folder; they may be too few to train on.

    Labels are normalised to NFC, so that labels that look the same are one class.

    Args:
        images: root of the photos; without ``labels``, each of its folders is a class.
        labels: label file (:mod:`train_job.data.labels.formats`); names in it are relative to ``images`` or absolute.
        columns: columns of names, labels and splits; None to find one
            (:func:`train_job.data.labels.find_columns.find_columns`), and ``""`` for no splits.
        classes: classes to use, in this order; photos of others are skipped. Default: all, in alphabetical order.
        merge: labels to replace by others.
        training_labels: classes of the training photos, if these are test photos.

    Raises:
        NotFoundError: the label file or the root of the photos does not exist.
        InputError: the label file cannot be read, or the folders are ambiguous.
    """
    chosen = tuple(map(to_nfc, classes))
    if len(set(chosen)) != len(chosen):
        raise InputError("a class is named twice", where=f"--classes {','.join(chosen)}")
    if labels is None:
        photos = read_folders(
            images, training_labels or chosen, merge or LabelMerge(), allow_splits=training_labels is None
        )
    else:
        photos = read_rows(images, labels, columns, merge or LabelMerge())
    if chosen:
        photos = _skip_other_classes(photos, chosen)
    trained = set(photos.examples.label_counts(np.isin(photos.examples.split_codes, _TRAINED)))
    if training_labels is not None:
        photos = _reject_unseen(photos, set(training_labels))
    elif len(trained) > 1:  # with fewer, no training is possible, and the error says so
        photos = _reject_unseen(photos, trained)
    names = training_labels or chosen or photos.examples.label_counts()
    return replace(photos, labels=tuple(names))


def _skip_other_classes(photos: LabelledPhotos, classes: Sequence[str]) -> LabelledPhotos:
    used = photos.examples.take(photos.examples.has_label(classes))
    count = len(photos.examples) - len(used)
    skipped = {**photos.skipped, "class not in --classes": count} if count else photos.skipped
    return replace(photos, examples=used, skipped=skipped)


def _reject_unseen(photos: LabelledPhotos, trained: set[str]) -> LabelledPhotos:
    """Reject validation and test photos whose label no training photo has."""
    is_seen = photos.examples.has_label(trained)
    if is_seen.all():
        return photos
    rejected = (
        RejectedPhoto(example.image, example.row, "unseen-label", f"no training photo has the label {example.label!r}")
        for example in photos.examples.take(~is_seen)
    )
    return replace(photos, examples=photos.examples.take(is_seen), rejected=(*photos.rejected, *rejected))


def to_dataset(photos: LabelledPhotos, labels: str | None, images: str) -> Dataset:
    """Return the photos as a data set to train on; ``labels`` and ``images`` are the locations they were read from.

    Raises:
        InputError: no photo is usable, or fewer than two classes remain.
    """
    if len(photos.examples):
        return Dataset.from_photos(photos)
    minor = () if labels else ("not-photo-name", "no-label")
    hint = first_rejection([photo for photo in photos.rejected if photo.code not in minor])
    if photos.labels:
        hint = hint or f"none has one of the labels {', '.join(photos.labels)}"
    elif not labels:
        hint = hint or "use one folder a class, or pass a label file with --labels"
        raise InputError("holds no folder of photos", where=images, hint=hint)
    raise InputError("no labelled photo was found", where=labels or images, hint=hint)


def read_job_dataset(options: TrainOptions, report: Reporter) -> Dataset:
    """Read the photos that a job's options name, with the user's own test photos in the test split.

    Raises:
        InputError: as :func:`read_dataset`, after the rejected photos are reported; or a class is named ``unknown``.
    """
    return to_dataset(read_job_photos(options, report), options.labels, options.images)


def read_job_photos(options: TrainOptions, report: Reporter) -> LabelledPhotos:
    """Read the photos as :func:`read_job_dataset` does, also if they are too few to train on."""
    merge = LabelMerge.parse(options.merge_labels)
    columns = (options.x_col, options.y_col, options.split_col)
    photos = read_photos(options.images, options.labels, columns, options.classes, merge)
    _report(photos, "", report)
    merge.report(report)
    flag = "--precision" if options.precision is not None else "--reject-unlike"
    if UNKNOWN in photos.labels and (options.precision is not None or options.reject_unlike is not None):
        message = f"a class is named {UNKNOWN!r}, which {flag} predicts for photos that it is not sure of"
        raise InputError(
            message, where=options.labels or options.images, hint="rename it: --merge-labels unknown=other"
        )
    if options.test_images is None:
        return photos
    held_out = read_photos(
        options.test_images, options.test_labels, (*columns[:2], ""), options.classes, merge, photos.labels
    )
    _report(held_out, " to test on", report)
    try:
        to_dataset(held_out, options.test_labels, options.test_images)
    except InputError as error:
        raise InputError(error.message, where=error.where or options.test_images, hint=error.hint) from None
    return photos.with_test_photos(held_out)


def _report(photos: LabelledPhotos, purpose: str, report: Reporter) -> None:
    count, classes = len(photos.examples), len(photos.labels)
    report.line(f"Found {count} validated image filenames belonging to {classes} classes{purpose}.")
    counts = Counter(photos.examples.label_counts())
    if counts:
        more = f", and {len(counts) - _MAX_LISTED} more" if len(counts) > _MAX_LISTED else ""
        report.line("classes: " + ", ".join(f"{label!r} {n}" for label, n in counts.most_common(_MAX_LISTED)) + more)
    for remark in photos.remarks:
        report.line(remark)
    if photos.skipped:
        report.line("skipped: " + ", ".join(f"{n} {reason}" for reason, n in sorted(photos.skipped.items())))
    for pair in similar_labels(counts)[:_MAX_LISTED]:
        report.warning(f"{pair}; pass --merge-labels {pair.label!r}={pair.other!r} if they are one class")
    if photos.rejected:
        report.warning(rejected_summary(photos.rejected))
