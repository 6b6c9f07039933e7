"""Which column of a label file is what: as the user says, by well-known names, or by what is in it."""

import re
from collections.abc import Sequence

from train_job.data.dataset import Split
from train_job.data.labels.label_rows import Columns, LabelFile
from train_job.data.labels.match_photos import PhotoNames
from transferlite.errors import InputError
from transferlite.images.find_photos import is_photo

FIRST_NAME, FIRST_LABEL = "File Name", "Label"
"""The columns that are taken where they are, whatever else there is."""

_NAMES = """filename file files image images img photo picture imagename imagefile imagefilename imagepath imageuri
imagekey imageref imgname imgpath photoname photopath path filepath fullpath relativepath uri imageurl url s3uri s3path
s3key key objectkey sourceref source"""
_LABELS = """label labels class classes category target classname classlabel labelname categoryname targetname tag
groundtruth y"""
_SPLITS = "split splits subset partition set dataset datasplit usage mlusage"

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), Split.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), Split.VALIDATION),
    **dict.fromkeys(("test", "testing"), Split.TEST),
}


def split_of(text: str) -> Split | None:
    """What a cell of the split column says; None where it is empty and the choice ours. Raises ValueError."""
    word = text.strip().lower()
    if not word:
        return None
    try:
        return _SPLIT_WORDS[word]
    except KeyError:
        raise ValueError(f"{text.strip()!r} is no split; write train, validation or test, or leave it empty") from None


def find_columns(
    file: LabelFile, x_col: str | None, y_col: str | None, split_col: str | None, photos: PhotoNames
) -> Columns:
    """The columns of names, labels and splits.

    Those that the user names, which have to be there; ``File Name`` and ``Label``; a Ground Truth manifest's label
    attribute; the one column with a well-known name; the one whose values name photos; of two columns the other one.
    A split column is not needed; one found by its name has to hold splits, and ``split_col=""`` means none.

    Raises:
        InputError: a column that the user names is missing, or it is not clear which one it is.
    """
    if x_col is None:
        _check_header(file)
    for column, option in ((x_col, "--x-col"), (y_col, "--y-col"), (split_col, "--split-col")):
        if column and column not in file.columns:
            raise InputError(
                f"has no column {column!r}, only {_listed(file.columns)}",
                where=file.location,
                hint=f"name it with {option}",
            )
    split = _split(file, {x_col, y_col}) if split_col is None else split_col or None
    free = [column for column in dict.fromkeys(file.columns) if column not in {x_col, y_col, split}]
    name = x_col or _name(file, free, photos)
    free = [column for column in free if column != name]
    if name is None:  # then the labels', if that is clear, leaves one
        y_col = y_col or _label(file, free)
        free = [column for column in free if column != y_col]
        name = free[0] if len(free) == 1 and len(file.columns) > 1 else None
    if name is None:
        raise _unclear(file, FIRST_NAME, "photos", "--x-col")
    if y_col is None and file.attributes:
        return Columns(name, _attribute(file), split)
    label = y_col or _label(file, free) or (free[0] if len(free) == 1 else None)
    if label is None:
        raise _unclear(file, FIRST_LABEL, "labels", "--y-col")
    return Columns(name, label, split)


def _name(file: LabelFile, columns: Sequence[str], photos: PhotoNames) -> str | None:
    if FIRST_NAME in columns:
        return FIRST_NAME
    known = _known(columns, _NAMES)
    if len(known) == 1:
        return known[0]
    among = known or columns
    samples = {column: file.sample(column) for column in among}
    there = [column for column in among if any(map(photos.has, samples[column]))]
    if not there:  # but what they say may be told to be missing
        there = [column for column in among if any(map(is_photo, samples[column]))]
    if len(there) > 1:
        raise InputError(
            f"has several columns that name photos: {_listed(there)}", where=file.location, hint="choose by --x-col"
        )
    return there[0] if there else None


def _label(file: LabelFile, columns: Sequence[str]) -> str | None:
    if FIRST_LABEL in columns:
        return FIRST_LABEL
    known = _known(columns, _LABELS)
    if len(known) > 1:
        raise InputError(
            f"has several columns that may be the labels: {_listed(known)}",
            where=file.location,
            hint="choose by --y-col",
        )
    return known[0] if known else None


def _attribute(file: LabelFile) -> str | None:
    """The label attribute of a Ground Truth manifest; None where it changes from line to line, but each has one."""
    if len(file.attributes) == 1:
        return file.attributes[0]
    if file.attributes_meet:
        raise InputError(
            f"has several label attributes: {_listed(file.attributes)}", where=file.location, hint="choose by --y-col"
        )
    return None


def _split(file: LabelFile, taken: set[str | None]) -> str | None:
    known = [column for column in _known(file.columns, _SPLITS) if column not in taken]
    found = [column for column in known if _holds_splits(file.sample(column))]
    if len(found) > 1:
        raise InputError(
            f"has several columns of splits: {_listed(found)}", where=file.location, hint="choose by --split-col"
        )
    return found[0] if found else None


def _holds_splits(texts: Sequence[str]) -> bool:
    words = {text.strip().lower() for text in texts} - {""}
    return not words or not words.isdisjoint(_SPLIT_WORDS)


def _known(columns: Sequence[str], names: str) -> list[str]:
    known = set(names.split())
    return [column for column in dict.fromkeys(columns) if re.sub(r"[\W_]", "", column).lower() in known]


def _check_header(file: LabelFile) -> None:
    """Raises InputError where the first row was taken for names of columns and is none."""
    if photo := next((column for column in file.columns if is_photo(column)), None):
        raise InputError(
            f"has no header, its first line is of a photo ({photo!r})",
            where=file.location,
            hint="put a line before it that names the columns, such as File Name,Label",
        )


def _unclear(file: LabelFile, first: str, what: str, option: str) -> InputError:
    return InputError(
        f"has no column {first!r} or another known name of {what}, only {_listed(file.columns)}",
        where=file.location,
        hint=f"name it with {option}",
    )


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    return ", ".join(repr(column) for column in columns[:20]) + more
