"""The records that the function wrote, read back: one JSON a photo, or files of lines in a folder for each day."""

import datetime
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from transferlite.errors import InputError, NotFoundError
from transferlite.storage.locations import open_store
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Entry, Store

SAMPLE = 10_000
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class SampledRecords:
    """Records since a moment, of which at most a sample is read.

    Attributes:
        records: what was read, a photo's content once for each model.
        files: how many files there are in that time.
        read: how many of them were read.
    """

    records: tuple[dict[str, Any], ...]
    files: int
    read: int


def parse_since(since: str, now: datetime.datetime) -> datetime.datetime:
    """The moment that ``7d``, ``36h``, ``90m``, ``2w`` or a date ``2026-01-31`` names. Raises InputError."""
    ago = re.fullmatch(r"([0-9]{1,5})([mhdw])", since)
    if ago:
        return now - datetime.timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
    try:
        return datetime.datetime.combine(datetime.date.fromisoformat(since), datetime.time(), datetime.UTC)
    except ValueError:
        raise InputError(f"{since!r} is no time span", hint="write 7d, 36h or 2026-01-31") from None


def read_records(uri: str, since: datetime.datetime, sample: int = SAMPLE) -> SampledRecords:
    """The records at a location: ``s3://bucket/predictions``, or the prefix of lines, whose days are ``dt=2026-01-31``.

    Records of a photo each are chosen by when they were written, lines by the day of the photo: only the folders of
    these days are listed. Of more than ``sample`` a random part is read, the same each time.
    """
    store = open_store(uri)
    days = sorted(name for name in store.children() if re.fullmatch(r"dt=\d{4}-\d\d-\d\d", name))
    if days:
        entries: Iterable[Entry] = chain.from_iterable(
            store.entries(f"{day}/") for day in days if day >= f"dt={since:%Y-%m-%d}"
        )
    else:
        entries = (entry for entry in store.entries() if entry.modified >= since.timestamp())
    chosen, files = _some((entry.key for entry in entries if entry.key.endswith(".json")), sample)
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    read = 0
    for some in prefetch_map(lambda key: _lines(store, key), chosen):
        read += 1
        records |= {_identity(one): one for one in some}
        if len(records) >= sample:
            break
    return SampledRecords(tuple(records.values())[:sample], files, read)


def _some(keys: Iterable[str], most: int) -> tuple[list[str], int]:
    """A random choice of at most so many, in random order, and how many there were, which are never all in memory.

    Source: Vitter's Algorithm R, Random Sampling with a Reservoir, 1985.
    """
    chance, count = random.Random(0), 0
    kept: list[str] = []
    for key in keys:
        count += 1
        if len(kept) < most:
            kept.append(key)
        elif (place := chance.randrange(count)) < most:
            kept[place] = key
    chance.shuffle(kept)
    return kept, count


def _lines(store: Store, key: str) -> list[dict[str, Any]]:
    try:
        data = store.get(key).data
    except NotFoundError:
        return []  # deleted since it was listed
    return [one for one in _parsed(data.splitlines()) if isinstance(one, dict)]


def _parsed(lines: Iterable[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _identity(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(str(record.get(name)) for name in ("image", "version", "etag", "model_id"))
