"""Read prediction records back: one JSON object per photo, or JSON lines in one folder per day."""

import datetime
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from transferlite.errors import InputError, NotFoundError
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Entry, Store

SAMPLE = 10_000
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class SampledRecords:
    """A random sample of the records since a moment.

    Attributes:
        records: the sample; each photo's content appears once per model.
        files: number of files written since then.
        read: number of these files that were read.
    """

    records: tuple[dict[str, Any], ...]
    files: int
    read: int


def parse_since(since: str, now: datetime.datetime) -> datetime.datetime:
    """Convert ``90m``, ``36h``, ``7d``, ``2w`` or a date such as ``2026-01-31`` to a moment. Raises InputError."""
    ago = re.fullmatch(r"([0-9]{1,5})([mhdw])", since)
    if ago:
        return now - datetime.timedelta(seconds=int(ago[1]) * _UNIT_SECONDS[ago[2]])
    try:
        return datetime.datetime.combine(datetime.date.fromisoformat(since), datetime.time(), datetime.UTC)
    except ValueError:
        raise InputError(f"{since!r} is not a time span", hint="use 7d, 36h or a date such as 2026-01-31") from None


def read_records(uri: str, since: datetime.datetime, sample: int = SAMPLE) -> SampledRecords:
    """Read records below ``s3://bucket/predictions``, or below a folder of JSON lines with days ``dt=2026-01-31``.

    Single records are selected by modification time, JSON lines by the day of the photo, so that only these days are
    listed. If there are more than ``sample`` records, a random sample is read: the same in every call.
    """
    store = open_store(uri)
    if isinstance(store, FolderStore):
        _check_folder(store.root)
    days = sorted(name for name in store.children() if re.fullmatch(r"dt=\d{4}-\d\d-\d\d", name))
    if days:
        entries: Iterable[Entry] = chain.from_iterable(
            store.entries(f"{day}/") for day in days if day >= f"dt={since:%Y-%m-%d}"
        )
    else:
        entries = (entry for entry in store.entries() if entry.modified >= since.timestamp())
    keys, files = _random_sample((entry.key for entry in entries if entry.key.endswith(".json")), sample)
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    read = 0
    for file_records in prefetch_map(lambda key: _read_file(store, key), keys):
        read += 1
        records |= {_identity(record): record for record in file_records}
        if len(records) >= sample:
            break
    return SampledRecords(tuple(records.values())[:sample], files, read)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        hint = "give the folder of the records, such as predictions; files of predict --out are not records"
        raise InputError("is a file, not a folder of prediction records", where=str(folder), hint=hint)
    if not folder.is_dir():
        raise NotFoundError("there is no such folder", where=str(folder), hint="correct the path, or mount its disk")


def _random_sample(keys: Iterable[str], size: int) -> tuple[list[str], int]:
    """Sample at most ``size`` keys, in random order, without holding all in memory; also return how many there were.

    Source: Vitter, Random Sampling with a Reservoir, 1985, Algorithm R.
    """
    rng, count = random.Random(0), 0
    sample: list[str] = []
    for key in keys:
        count += 1
        if len(sample) < size:
            sample.append(key)
        elif (index := rng.randrange(count)) < size:
            sample[index] = key
    rng.shuffle(sample)
    return sample, count


def _read_file(store: Store, key: str) -> list[dict[str, Any]]:
    try:
        data = store.get(key).data
    except NotFoundError:
        return []  # deleted since it was listed
    return [record for record in _parse_lines(data.splitlines()) if isinstance(record, dict)]


def _parse_lines(lines: Iterable[bytes]) -> Iterator[Any]:
    """Parse each line as JSON; damaged lines are skipped."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _identity(record: dict[str, Any]) -> tuple[Any, ...]:
    """Key that records of the same photo content and model share."""
    return tuple(str(record.get(name)) for name in ("image", "version", "etag", "model_id"))
