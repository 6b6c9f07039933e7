"""Read label files that are tables already, Parquet and Excel, with pandas."""

import io
from collections.abc import Iterator, Sequence

from train_job.arrow import pa
from train_job.data.labels.label_rows import LabelFile, NumberedValues, as_text
from transferlite.errors import InputError, MissingExtraError

_PANDAS_INDEX = "__index_level_"


def open_parquet(location: str, data: bytes) -> LabelFile:
    """Open Parquet columns of text, numbers, booleans or categories; row numbers start at 1.

    Only the needed columns are read. Raises InputError if the file is damaged.
    """
    from pyarrow.parquet import read_schema

    def read(columns: Sequence[str], _: int) -> Iterator[NumberedValues]:
        import pandas as pd

        try:
            table = pd.read_parquet(io.BytesIO(data), columns=list(dict.fromkeys(columns)), dtype_backend="pyarrow")
        except (pa.ArrowException, OSError) as error:
            raise _damaged(location, error) from None
        table = table.reset_index() if any(table.index.names) else table  # pandas stored a column as the index
        values = (pa.chunked_array(pa.array(table[column])).to_pylist() for column in columns)
        yield from enumerate(zip(*values, strict=True), 1)

    try:
        names = read_schema(pa.BufferReader(data)).names
    except (pa.ArrowException, OSError) as error:
        raise _damaged(location, error) from None
    return LabelFile(location, tuple(name for name in names if not name.startswith(_PANDAS_INDEX)), read)


def open_excel(location: str, data: bytes) -> LabelFile:
    """Open the only sheet with values of an Excel workbook; row numbers are those of the sheet.

    Formulas have the value that was last computed.

    Raises:
        InputError: the file is no workbook, is damaged, is blank, or has several sheets with values.
        MissingExtraError: openpyxl is not installed.
    """
    import pandas as pd

    try:
        workbook = pd.read_excel(
            io.BytesIO(data), sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl"
        )
    except ImportError:
        raise MissingExtraError("openpyxl", "train") from None
    except Exception as error:  # of openpyxl, its zip file or its XML parser
        message = f"is damaged, or a zip file that is no Excel workbook ({' '.join(str(error).split())[:200]})"
        raise InputError(message, where=location, hint="save it as .xlsx or CSV UTF-8") from None
    sheets = [[tuple(row) for row in sheet.itertuples(index=False)] for sheet in workbook.values()]
    sheets = [rows for rows in sheets if any(any(map(as_text, row)) for row in rows)]
    if len(sheets) != 1:
        raise InputError(f"has {len(sheets)} sheets with values", where=location, hint="save one sheet as CSV UTF-8")
    (rows,) = sheets
    start = next(start for start, row in enumerate(rows) if any(map(as_text, row)))
    header = [as_text(value).strip() for value in rows[start]]

    def read(columns: Sequence[str], _: int) -> Iterator[NumberedValues]:
        indices = [header.index(column) for column in columns]
        for number, row in enumerate(rows[start + 1 :], start + 2):
            yield number, [row[index] for index in indices]

    return LabelFile(location, tuple(filter(None, header)), read)


def _damaged(location: str, error: Exception) -> InputError:
    return InputError(f"is damaged Parquet ({' '.join(str(error).split())[:200]})", where=location)
