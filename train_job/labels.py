"""Which photos have which label: from a CSV, or from a folder a class."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from runtime.errors import InputError, NotFoundError
from runtime.locations import open_store, read_uri
from runtime.photos import is_junk, is_photo
from runtime.store import join_uri
from train_job.dataset import Dataset, Example, Reject, first_reason


def read_dataset(
    images: str,
    labels: str | None = None,
    x_col: str = "File Name",
    y_col: str = "Label",
    classes: Sequence[str] = (),
) -> Dataset:
    """The photos below ``images`` (an ``s3://`` prefix or folder) that have a label.

    Args:
        images: the root of the photos; without ``labels``, each folder in it is a class.
        labels: a CSV whose ``x_col`` names photos (relative to ``images``, or whole URIs) and ``y_col`` their labels.
        x_col: the column of names.
        y_col: the column of labels.
        classes: the classes to use, in this order; rows of others are left out. Default: all, in alphabetical order.

    Raises:
        NotFoundError: the CSV or the photos' root does not exist.
        InputError: a column is missing, nothing is usable, or fewer than two classes remain.
    """
    if labels is None:
        found, rejects = _from_folders(images)
    else:
        found, rejects = _from_csv(images, _read_csv(labels, x_col, y_col), labels)
    names = tuple(classes) or tuple(sorted({example.label for example in found}))
    if len(set(names)) != len(names):
        raise InputError("a class is named twice", where=f"--classes {','.join(names)}")
    examples = tuple(example for example in found if example.label in set(names))
    if not examples:
        reason = first_reason(rejects) or f"none has one of the labels {', '.join(names)}"
        raise InputError("no labelled photo was found", where=labels or images, hint=reason)
    return Dataset(examples, names, tuple(rejects))


def _from_folders(images: str) -> tuple[list[Example], list[Reject]]:
    store = open_store(images)
    examples: list[Example] = []
    rejects: list[Reject] = []
    for entry in store.entries():
        label, _, rest = entry.key.partition("/")
        uri = join_uri(store.uri, entry.key)
        if not rest or is_junk(entry.key):
            continue
        if not uri.isprintable():
            readable = uri.encode("utf-8", "backslashreplace").decode()
            rejects.append(Reject(readable, None, "bad-name", "the name has a character that cannot be printed"))
        elif is_photo(entry.key):
            examples.append(Example(uri, label, stamp=entry.stamp))
        else:
            rejects.append(Reject(uri, None, "not-photo-name", "its name has no ending of a known image format"))
    if not examples:
        raise InputError(
            "holds no folder of photos", where=images, hint="expected one folder a class, or give --labels"
        )
    return examples, rejects


def _read_csv(location: str, x_col: str, y_col: str) -> list[tuple[str, str]]:
    """The photos' names and labels, row by row, as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # a comma at the end of each row
            table = pd.read_csv(
                io.BytesIO(read_uri(location)),
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,
                skip_blank_lines=False,
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"is not a CSV in UTF-8 ({' '.join(str(error).split())})", where=location) from error
    for column, option in ((x_col, "--x-col"), (y_col, "--y-col")):
        if column not in table.columns:
            there = ", ".join(repr(name) for name in table.columns)
            raise InputError(f"has no column {column!r}, only {there}", where=location, hint=f"name it with {option}")
    return [(name.strip(), label.strip()) for name, label in zip(table[x_col], table[y_col], strict=True)]


def _from_csv(images: str, table: list[tuple[str, str]], location: str) -> tuple[list[Example], list[Reject]]:
    store = open_store(images)
    there = {entry.key: entry.stamp for entry in store.entries()}
    if not there:
        raise NotFoundError("holds no files", where=images, hint="mend --images")
    examples: dict[str, Example] = {}
    rejects: list[Reject] = []
    for row, (name, label) in enumerate(table, start=2):
        key = _relative(name, store.uri)
        uri = key if _is_absolute(key) else join_uri(store.uri, key)
        if not label and not name:
            continue  # a blank line, which still counts as one
        if not label or not name:
            rejects.append(Reject(uri, row, "no-label", "the row has an empty name or label"))
        elif not label.isprintable():
            rejects.append(Reject(uri, row, "bad-label", f"the label {label!r} has a character that cannot be printed"))
        elif not _is_absolute(key) and key not in there:
            rejects.append(Reject(uri, row, "missing", f"there is no such file (row {row} of {location})"))
        elif uri not in examples:
            examples[uri] = Example(uri, label, row, stamp=there.get(key, ""))
        elif examples[uri].label == label:
            rejects.append(Reject(uri, row, "repeated-row", f"row {examples[uri].row} says the same"))
        else:
            first = examples[uri]
            reason = f"row {first.row} says {first.label!r}, row {row} says {label!r}"
            rejects.append(Reject(uri, row, "conflicting-labels", reason))
    disputed = {reject.uri: reject for reject in rejects if reject.code == "conflicting-labels"}
    for uri, reject in disputed.items():
        rejects.append(replace(reject, row=examples.pop(uri).row))
    return list(examples.values()), rejects


def _is_absolute(name: str) -> bool:
    return "://" in name or name.startswith("/")


def _relative(name: str, root: str) -> str:
    """A photo's name as a key below ``root`` where it lies there, otherwise unchanged."""
    return name.removeprefix(f"{root}/").removeprefix("./")
