"""Read label files that are tables already, Parquet and Excel, with pandas."""

import io
from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import TYPE_CHECKING, Any

from train_job.arrow import pa
from train_job.data.labels.label_file import LabelFile, arrow_file, as_text
from transferlite.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd

_PANDAS_INDEX = "__index_level_"


def open_parquet(location: str, data: mmap) -> LabelFile:
    """Open Parquet columns of text, numbers, booleans or categories; row numbers start at 1.

    Only the needed columns are read. Raises InputError if the file is damaged.
    """
    import pyarrow.parquet as pq

    def read(columns: Sequence[str], chunk_rows: int) -> Iterator["pd.DataFrame"]:
        import pandas as pd

        start = 1
        try:
            for batch in pq.ParquetFile(arrow_file(data)).iter_batches(
                chunk_rows, columns=list(dict.fromkeys(columns))
            ):
                values = {position: batch.column(name).to_pylist() for position, name in enumerate(columns)}
                yield pd.DataFrame(values, range(start, start + len(batch)), dtype=object)
                start += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(location, error) from None

    try:
        names = pq.read_schema(arrow_file(data)).names
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

    options: dict[str, Any] = {"header": None, "dtype": object, "na_filter": False, "engine": "openpyxl"}
    try:
        sheets = pd.read_excel(io.BytesIO(data), sheet_name=None, **options)
    except ImportError:
        raise MissingExtraError("openpyxl", "train") from None
    except Exception as error:  # of openpyxl, its zip file or its XML parser
        message = f"is damaged, or a zip file that is no Excel workbook ({' '.join(str(error).split())[:200]})"
        raise InputError(message, where=location, hint="save it as .xlsx or CSV UTF-8") from None
    filled = [sheet for sheet in sheets.values() if sheet.map(lambda value: as_text(value) != "").any(axis=None)]
    if len(filled) != 1:
        raise InputError(f"has {len(filled)} sheets with values", where=location, hint="save one sheet as CSV UTF-8")
    table = filled[0].set_axis(range(1, len(filled[0]) + 1))
    header_row = table.index[table.map(lambda value: as_text(value) != "").any(axis=1)][0]
    header = [as_text(value).strip() for value in table.loc[header_row]]

    def read(columns: Sequence[str], _: int) -> Iterator["pd.DataFrame"]:
        yield table.loc[header_row + 1 :, [header.index(column) for column in columns]]

    return LabelFile(location, tuple(filter(None, header)), read)


def _damaged(location: str, error: Exception) -> InputError:
    return InputError(f"is damaged Parquet ({' '.join(str(error).split())[:200]})", where=location)
