"""Read label files in Parquet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from train_job.arrow import pa
from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE_ROWS, LabelColumns, LabelRow, as_text, check_unique, text_or_none
from transferlite.errors import InputError

_BATCH_ROWS = 2**16
_PANDAS_INDEX = "__index_level_"


@dataclass(frozen=True)
class ParquetLabelFile:
    """A Parquet file with columns of text, numbers, booleans or categories. Row numbers start at 1."""

    location: str
    file: Any
    columns: tuple[str, ...]

    @classmethod
    def open(cls, location: str, data: bytes) -> "ParquetLabelFile":
        """Read the names of the columns. Raises InputError if the file is damaged."""
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(location, error) from None
        return cls(
            location, file, tuple(name for name in file.schema_arrow.names if not name.startswith(_PANDAS_INDEX))
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        return ()

    @property
    def attributes_overlap(self) -> bool:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        return False

    def sample(self, column: str) -> Sequence[str]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        texts = (text_or_none(value) for (value,) in islice(self._records([column], SAMPLE_ROWS), SAMPLE_ROWS))
        return [text for text in texts if text is not None]

    def rows(self, columns: LabelColumns) -> Iterator[LabelRow | RejectedPhoto]:
        """See :class:`train_job.data.labels.label_rows.LabelFile`."""
        check_unique(self.columns, columns, self.location)
        for row, record in enumerate(self._records(columns.present, _BATCH_ROWS), 1):
            try:
                yield LabelRow.from_values(row, [as_text(value) for value in record])
            except ValueError as error:
                yield RejectedPhoto(text_or_none(record[0]) or self.location, row, "bad-row", str(error))

    def _records(self, columns: Sequence[str], batch_rows: int) -> Iterator[tuple[object, ...]]:
        """Yield each row's values of the columns, reading ``batch_rows`` rows at a time."""
        try:
            for batch in self.file.iter_batches(batch_rows, columns=list(dict.fromkeys(columns))):
                yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.location, error) from None


def _damaged(location: str, error: Exception) -> InputError:
    return InputError(f"is damaged Parquet ({' '.join(str(error).split())[:200]})", where=location)
