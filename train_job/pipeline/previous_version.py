"""Read the training data of the version that a channel points to, so that the next version keeps its splits."""

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from train_job.data.dataset import Example, Split
from train_job.data.split import SplitShares
from train_job.pipeline.training_csvs import DATASET_CSV, DEPARTED_CSV
from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry


@dataclass(frozen=True)
class PreviousVersion:
    """The channel's current version; empty if the channel is new or its version cannot be read.

    Attributes:
        manifest: the version's manifest, if any.
        splits: split by sha256 of the version's photos and of those that only earlier versions had. Empty if the
            version was made with other split shares: then all photos are assigned again.
    """

    manifest: Manifest | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)

    def ordered_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """``labels`` with the previous version's classes first, in their previous order, and new classes last."""
        old = [label for label in self.manifest.labels if label in labels] if self.manifest else []
        return (*old, *(label for label in labels if label not in old))


def read_previous_version(registry: Registry, channel: str, shares: SplitShares) -> PreviousVersion:
    """Read the version that the channel points to, as far as it can be read."""
    try:
        manifest = registry.manifest(registry.channel(channel).model_id)
        if manifest.dataset.get("shares") != str(shares):
            return PreviousVersion(manifest)
        examples = read_dataset_csv(registry, manifest.model_id)
    except (NotFoundError, BundleError):
        return PreviousVersion()
    splits = {example.sha256: example.split for example in examples if example.split is not None}
    with suppress(NotFoundError):  # versions from before departed.csv existed
        splits = _read_departed_csv(registry, manifest.model_id) | splits
    return PreviousVersion(manifest, splits)


def read_dataset_csv(registry: Registry, model_id: str) -> list[Example]:
    """Read the photos of a version's ``training/dataset.csv``, each with its hash and split.

    Raises:
        NotFoundError: the version does not exist or has no such file.
        BundleError: the file is damaged.
    """
    rows = _read_rows(registry, f"models/{model_id}/{DATASET_CSV}", ("image", "label", "sha256", "split"))
    return [Example(image, label, sha256=sha256, split=Split(split)) for image, label, sha256, split in rows]


def _read_departed_csv(registry: Registry, model_id: str) -> dict[str, Split]:
    rows = _read_rows(registry, f"models/{model_id}/{DEPARTED_CSV}", ("sha256", "split"))
    return {sha256: Split(split) for sha256, split in rows}


def _read_rows(registry: Registry, key: str, columns: Sequence[str]) -> list[list[str]]:
    """Read the named columns of a CSV file, the last of which is a split."""
    lines = csv.DictReader(io.StringIO(registry.store.get(key).data.decode(errors="surrogateescape")))
    try:
        rows = [[line[name] for name in columns] for line in lines]
        if unknown := {row[-1] for row in rows} - {split.value for split in Split}:
            raise ValueError(f"{sorted(unknown)[0]!r} is not a split")
    except (KeyError, ValueError, csv.Error) as error:
        raise BundleError(f"cannot be read ({error})", where=f"{registry.store.uri}/{key}") from error
    return rows
