"""Label files in Parquet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from train_job.arrow import pa
from train_job.data.dataset import RejectedPhoto
from train_job.data.labels.label_rows import SAMPLE, Columns, LabelRow, as_text, duplicate_free, text_or_none
from transferlite.errors import InputError

_BATCH = 2**16
_INDEX = "__index_level_"


@dataclass(frozen=True)
class ParquetLabels:
    """Columns of text, numbers, booleans or categories. A row's number counts from 1."""

    location: str
    file: Any
    columns: tuple[str, ...]

    @classmethod
    def open(cls, location: str, data: bytes) -> "ParquetLabels":
        """Read the names of the columns. Raises InputError where it is damaged."""
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(location, error) from None
        return cls(location, file, tuple(name for name in file.schema_arrow.names if not name.startswith(_INDEX)))

    @property
    def attributes(self) -> tuple[str, ...]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        return ()

    @property
    def attributes_meet(self) -> bool:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        return False

    def sample(self, column: str) -> Sequence[str]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        texts = (text_or_none(value) for (value,) in islice(self._records([column], SAMPLE), SAMPLE))
        return [text for text in texts if text is not None]

    def rows(self, columns: Columns) -> Iterator[LabelRow | RejectedPhoto]:
        """As :class:`train_job.data.labels.label_rows.LabelFile`."""
        duplicate_free(self.columns, columns, self.location)
        for row, record in enumerate(self._records(columns.known, _BATCH), 1):
            try:
                yield LabelRow.of(row, [as_text(value) for value in record])
            except ValueError as error:
                yield RejectedPhoto(text_or_none(record[0]) or self.location, row, "bad-row", str(error))

    def _records(self, columns: Sequence[str], size: int) -> Iterator[tuple[object, ...]]:
        """Each row's values in these columns, read ``size`` rows at a time."""
        try:
            for batch in self.file.iter_batches(size, columns=list(dict.fromkeys(columns))):
                yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.location, error) from None


def _damaged(location: str, error: Exception) -> InputError:
    return InputError(f"is damaged Parquet ({' '.join(str(error).split())[:200]})", where=location)
