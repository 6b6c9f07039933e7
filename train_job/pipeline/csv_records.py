"""The CSV files that a version keeps of its training: each photo's split, what was left out, the history."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields
from typing import TYPE_CHECKING

from train_job.data.dataset import Example, RejectedPhoto, Split
from train_job.data.split import Shares
from train_job.quality.codes import what_to_do
from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry

if TYPE_CHECKING:
    from train_job.head.recipe import Epoch

DATASET_CSV = "training/dataset.csv"
DEPARTED_CSV = "training/departed.csv"
QUARANTINE_CSV = "training/quarantine.csv"
NOTES_CSV = "training/notes.csv"
CHECK_JSON = "training/check.json"
HISTORY_CSV = "training/history.csv"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def dataset_csv(examples: Sequence[Example], splits: Mapping[str, Split]) -> str:
    """``image,label,sha256,split``, a photo a line."""
    rows = ((one.image, one.label, one.sha256, splits[one.sha256].value) for one in examples)
    return _csv(("image", "label", "sha256", "split"), rows)


def departed_csv(before: Mapping[str, Split], now: Mapping[str, Split]) -> str:
    """``sha256,split`` of photos that only earlier versions had: one that comes back keeps its split."""
    rows = sorted((sha256, split.value) for sha256, split in before.items() if sha256 not in now)
    return _csv(("sha256", "split"), rows)


def quarantine_csv(found: Sequence[RejectedPhoto]) -> str:
    """``row,uri,code,reason,what_to_do``, a photo or row that was left out (or is noted) a line."""
    rows = ((one.row, one.uri, one.code, one.reason, what_to_do(one.code)) for one in found)
    return _csv(("row", "uri", "code", "reason", "what_to_do"), rows)


def history_csv(history: Sequence["Epoch"]) -> str:
    """``epoch,loss,accuracy,val_loss,val_accuracy``, an epoch a line."""
    from train_job.head.recipe import Epoch  # which imports TensorFlow

    return _csv([one.name for one in fields(Epoch)], map(astuple, history))


def dataset_sha256(examples: Iterable[Example]) -> str:
    """A hexadecimal sha256 that two data sets share if they have the same photos with the same labels."""
    lines = sorted(f"{example.sha256} {example.label}\n" for example in examples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class PreviousVersion:
    """What the version that the channel names says of its training; empty where there is none that can be read.

    ``splits`` (by sha256), of its photos and of those that earlier versions had, is empty also where it was made with
    other shares: then all photos are assigned anew.
    """

    manifest: Manifest | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)

    def order(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The labels so that a class keeps its place among those that stay, and new ones follow."""
        old = [label for label in self.manifest.labels if label in labels] if self.manifest else []
        return (*old, *(label for label in labels if label not in old))


def read_previous_version(registry: Registry, channel: str, shares: Shares) -> PreviousVersion:
    """The channel's version, as far as it can be read."""
    try:
        manifest = registry.manifest(registry.channel(channel).model_id)
        if manifest.dataset.get("shares") != str(shares):
            return PreviousVersion(manifest)
        examples = read_dataset_csv(registry, manifest.model_id)
    except (NotFoundError, BundleError):
        return PreviousVersion()
    splits = {one.sha256: one.split for one in examples if one.split is not None}
    with suppress(NotFoundError):  # a version from before photos were remembered
        splits = _departed(registry, manifest.model_id) | splits
    return PreviousVersion(manifest, splits)


def read_dataset_csv(registry: Registry, model_id: str) -> list[Example]:
    """The photos that a version was made of, each with its hash and split.

    Raises:
        NotFoundError: there is no such version, or it kept no such table.
        BundleError: the table is damaged.
    """
    rows = _rows(registry, f"models/{model_id}/{DATASET_CSV}", ("image", "label", "sha256", "split"))
    return [Example(image, label, sha256=sha256, split=Split(split)) for image, label, sha256, split in rows]


def _departed(registry: Registry, model_id: str) -> dict[str, Split]:
    rows = _rows(registry, f"models/{model_id}/{DEPARTED_CSV}", ("sha256", "split"))
    return {sha256: Split(split) for sha256, split in rows}


def _rows(registry: Registry, key: str, columns: Sequence[str]) -> list[list[str]]:
    """The columns of a table, the last of which is a split."""
    lines = csv.DictReader(io.StringIO(registry.store.get(key).data.decode(errors="surrogateescape")))
    try:
        rows = [[line[name] for name in columns] for line in lines]
        if unknown := {row[-1] for row in rows} - {split.value for split in Split}:
            raise ValueError(f"{sorted(unknown)[0]!r} is no split")
    except (KeyError, ValueError, csv.Error) as error:
        raise BundleError(f"cannot be read ({error})", where=f"{registry.store.uri}/{key}") from error
    return rows
