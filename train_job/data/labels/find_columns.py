"""Find a label file's columns of names, labels and splits: by option, by well-known name, or by content."""

import re
from collections.abc import Sequence

from train_job.data.example import Split
from train_job.data.labels.label_file import LabelFile
from train_job.data.labels.label_rows import LabelColumns, is_one_hot
from train_job.data.labels.match_photos import PhotoMatcher
from transferlite.errors import InputError
from transferlite.images.find_photos import is_photo

DEFAULT_NAME, DEFAULT_LABEL = "File Name", "Label"
"""Columns that take precedence over all other names."""

_NAME_COLUMNS = """filename file files image images img photo picture imagename imagefile imagefilename imagepath
imageuri imagekey imageref imgname imgpath photoname photopath path filepath fullpath relativepath uri imageurl url
s3uri s3path s3key key objectkey sourceref source"""
_LABEL_COLUMNS = """label labels class classes category target classname classlabel labelname categoryname targetname
tag groundtruth y choice"""
_SPLIT_COLUMNS = "split splits subset partition set dataset datasplit usage mlusage"

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), Split.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), Split.VALIDATION),
    **dict.fromkeys(("test", "testing"), Split.TEST),
}


def parse_split(text: str) -> Split | None:
    """Parse a value of the split column; None if it is empty and the job chooses. Raises ValueError."""
    word = text.strip().lower()
    if not word:
        return None
    try:
        return SPLIT_WORDS[word]
    except KeyError:
        raise ValueError(
            f"{text.strip()!r} is not a split; write train, validation or test, or leave it empty"
        ) from None


def find_columns(
    file: LabelFile, x_col: str | None, y_col: str | None, split_col: str | None, photos: PhotoMatcher
) -> LabelColumns:
    """Find the columns of names, labels and splits.

    In order of precedence: the column that the option names; ``File Name`` and ``Label``; the label attribute of a
    Ground Truth manifest; the only column with a well-known name; the only column whose values name photos; the other
    one of two columns; the columns that hold only 0 and 1, one per class. The split column is optional: without
    ``split_col`` it is found by name and must hold splits, and ``split_col=""`` means none.

    Args:
        file: the label file.
        x_col: value of ``--x-col``.
        y_col: value of ``--y-col``.
        split_col: value of ``--split-col``.
        photos: the listed photos, which tell a column of names.

    Raises:
        InputError: a named column is missing, or no or several columns match.
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
    split = _find_split(file, {x_col, y_col}) if split_col is None else split_col or None
    free = [column for column in dict.fromkeys(file.columns) if column not in {x_col, y_col, split}]
    name = x_col or _find_name(file, free, photos)
    free = [column for column in free if column != name]
    if name is None:  # without the label column, a single column may be left
        y_col = y_col or _find_label(file, free)
        free = [column for column in free if column != y_col]
        name = free[0] if len(free) == 1 and len(file.columns) > 1 else None
    if name is None:
        raise _unclear(file, DEFAULT_NAME, "photos", "--x-col")
    if y_col is None and file.attributes:
        return LabelColumns(name, _attribute(file), split)
    label = y_col or _find_label(file, free) or (free[0] if len(free) == 1 else None)
    if label is None:
        one_hot = tuple(column for column in free if is_one_hot(file.sample(column)))
        if len(one_hot) > 1:
            return LabelColumns(name, None, split, one_hot)
        raise _unclear(file, DEFAULT_LABEL, "labels", "--y-col")
    return LabelColumns(name, label, split)


def _find_name(file: LabelFile, columns: Sequence[str], photos: PhotoMatcher) -> str | None:
    if DEFAULT_NAME in columns:
        return DEFAULT_NAME
    well_known = _well_known(columns, _NAME_COLUMNS)
    if len(well_known) == 1:
        return well_known[0]
    candidates = well_known or columns
    samples = {column: file.sample(column) for column in candidates}
    matching = [column for column in candidates if photos.any_listed(samples[column])]
    if not matching:  # no photo exists, but the names look like photos: reading the rows then reports them as missing
        matching = [column for column in candidates if any(map(is_photo, samples[column]))]
    if len(matching) > 1:
        raise InputError(
            f"has several columns that name photos: {_listed(matching)}",
            where=file.location,
            hint="choose one with --x-col",
        )
    return matching[0] if matching else None


def _find_label(file: LabelFile, columns: Sequence[str]) -> str | None:
    if DEFAULT_LABEL in columns:
        return DEFAULT_LABEL
    well_known = _well_known(columns, _LABEL_COLUMNS)
    if len(well_known) > 1:
        raise InputError(
            f"has several columns that may be the labels: {_listed(well_known)}",
            where=file.location,
            hint="choose one with --y-col",
        )
    return well_known[0] if well_known else None


def _attribute(file: LabelFile) -> str | None:
    """Return the label attribute of a Ground Truth manifest; None if it differs between lines that have one each."""
    if len(file.attributes) == 1:
        return file.attributes[0]
    if file.attributes_overlap:
        raise InputError(
            f"has several label attributes: {_listed(file.attributes)}",
            where=file.location,
            hint="choose one with --y-col",
        )
    return None


def _find_split(file: LabelFile, used: set[str | None]) -> str | None:
    well_known = [column for column in _well_known(file.columns, _SPLIT_COLUMNS) if column not in used]
    matching = [column for column in well_known if _holds_splits(file.sample(column))]
    if len(matching) > 1:
        raise InputError(
            f"has several columns of splits: {_listed(matching)}",
            where=file.location,
            hint="choose one with --split-col",
        )
    return matching[0] if matching else None


def _holds_splits(texts: Sequence[str]) -> bool:
    values = {text.strip().lower() for text in texts} - {""}
    return not values or not values.isdisjoint(SPLIT_WORDS)


def _well_known(columns: Sequence[str], names: str) -> list[str]:
    known = set(names.split())
    return [column for column in dict.fromkeys(columns) if re.sub(r"[\W_]", "", column).lower() in known]


def _check_header(file: LabelFile) -> None:
    """Raise InputError if the first line names a photo and so is not a header."""
    if photo := next((column for column in file.columns if is_photo(column)), None):
        raise InputError(
            f"has no header: its first line names a photo ({photo!r})",
            where=file.location,
            hint="insert a first line that names the columns, such as File Name,Label",
        )


def _unclear(file: LabelFile, default: str, content: str, option: str) -> InputError:
    return InputError(
        f"has no column {default!r} or another known name of {content}, only {_listed(file.columns)}",
        where=file.location,
        hint=f"name it with {option}",
    )


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
    return ", ".join(repr(column) for column in columns[:20]) + more
