"""The rows of a label file: name, label and split of a photo each, as text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pa
from train_job.data.labels.label_file import LabelFile, to_text
from train_job.data.photos import text_column
from transferlite.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_CHUNK_ROWS = 2**16
_ONE, _ZERO = ("1", "1.0", "true"), ("", "0", "0.0", "false")


@dataclass(frozen=True)
class LabelColumns:
    """Names of the columns to read.

    Attributes:
        name: column of photo names.
        label: column of labels; None to use the only Ground Truth label attribute of each line.
        split: column of splits; None if there is none.
        one_hot: columns with a single 1 in each row, instead of a label column; empty otherwise.
    """

    name: str
    label: str | None
    split: str | None = None
    one_hot: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """How the columns were interpreted, for the log; empty if there is a label column."""
        return f"has one column per class: {', '.join(map(repr, self.one_hot))}" if self.one_hot else ""


@dataclass(frozen=True)
class LabelTable:
    """All rows of a label file as columns ``[N]``: some 60 bytes a row.

    A photo has one label here. Sets of labels would be a column of lists of codes; nothing else would change.

    Attributes:
        numbers: row numbers.
        names: names of photos, as :func:`train_job.data.photos.encode_text` has them.
        label_codes: index of each row's label in ``labels``.
        labels: distinct labels as they are written.
        split_codes: index of each row's split in ``splits``.
        splits: distinct splits as they are written.
        problems: why a row cannot be read, by its position.
    """

    numbers: NDArray[np.int64]
    names: pa.LargeBinaryArray
    label_codes: NDArray[np.int32]
    labels: tuple[str, ...]
    split_codes: NDArray[np.int32]
    splits: tuple[str, ...]
    problems: dict[int, str]

    @classmethod
    def read(cls, file: LabelFile, columns: LabelColumns) -> "LabelTable":
        """Read all rows. Raises InputError as :func:`read_label_rows` does."""
        numbers, names = [np.zeros(0, np.int64)], [text_column([])]
        label_codes, split_codes = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        labels: dict[str, int] = {}
        splits: dict[str, int] = {}
        problems: dict[int, str] = {}
        start = 0
        for table in read_label_rows(file, columns):
            problems |= {
                start + int(position): table["problem"].iloc[position]
                for position in np.flatnonzero(table["problem"] != "")
            }
            numbers.append(table.index.to_numpy(np.int64))
            names.append(_to_column(table["name"]))
            label_codes.append(_encode(table["label"], labels))
            split_codes.append(_encode(table["split"], splits))
            start += len(table)
        label, split = np.concatenate(label_codes), np.concatenate(split_codes)
        return cls(
            np.concatenate(numbers), pa.concat_arrays(names), label, tuple(labels), split, tuple(splits), problems
        )


def _to_column(texts: "pd.Series[str]") -> pa.LargeBinaryArray:
    if texts.dtype == object:
        return text_column(texts)
    return pa.chunked_array(pa.array(texts)).combine_chunks().cast(pa.large_binary())


def _encode(texts: "pd.Series[str]", codes: dict[str, int]) -> NDArray[np.int32]:
    """Return the code of each text; new texts get the next codes."""
    indices, distinct = texts.factorize()
    known = np.array([codes.setdefault(text, len(codes)) for text in distinct], np.int32)
    return known.take(indices)


def read_label_rows(file: LabelFile, columns: LabelColumns) -> Iterator["pd.DataFrame"]:
    """Yield all rows in order, in tables with the columns ``name``, ``label``, ``split`` and ``problem`` of text.

    The index has the rows' numbers. A missing or null value is empty. ``problem`` says why a row cannot be read; it is
    empty for others.

    Raises:
        InputError: two columns share a needed name, or the rest of the file cannot be read.
    """
    import pandas as pd

    labels = columns.one_hot or (columns.label or "",)
    needed = [columns.name, *labels, *([columns.split] if columns.split else [])]
    for column in needed:
        if (count := file.columns.count(column)) > 1:
            raise InputError(f"has {count} columns {column!r}", where=file.location, hint="rename one")
    for table in file.read(needed, _CHUNK_ROWS):
        problems: dict[int, str] = {}
        name, *texts = (to_text(table.iloc[:, position], problems) for position in range(len(needed)))
        label = _one_hot_labels(labels, texts, problems) if columns.one_hot else texts[0]
        split = texts[-1] if columns.split else ""
        problem = pd.Series(problems, table.index, object).fillna("") if problems else ""
        yield pd.DataFrame({"name": name, "label": label, "split": split, "problem": problem}, table.index)


def is_one_hot(texts: Sequence[str]) -> bool:
    """Return whether all values are 0 or 1 and some are 1."""
    values = {text.strip().lower() for text in texts}
    return values <= {*_ONE, *_ZERO} and not values.isdisjoint(_ONE)


def _one_hot_labels(
    labels: Sequence[str], texts: Sequence["pd.Series[str]"], problems: dict[int, str]
) -> "pd.Series[str]":
    """Return the label whose column holds 1, empty without one; ``problems`` receives rows with several or others."""
    import pandas as pd

    values = pd.DataFrame({label: column.str.strip().str.lower() for label, column in zip(labels, texts, strict=False)})
    chosen, known = values.isin(_ONE), values.isin([*_ONE, *_ZERO])
    for row in values.index[~known.all(axis=1)]:
        value = values.loc[row][~known.loc[row]].iloc[0]
        problems.setdefault(row, f"has the value {value!r} in the column of a class, where 0 or 1 is needed")
    for row in values.index[chosen.sum(axis=1) > 1]:
        several = values.columns[chosen.loc[row]]
        problems.setdefault(row, f"has {len(several)} labels where one is needed ({', '.join(several)})")
    return chosen.idxmax(axis=1).where(chosen.any(axis=1), "")
