"""Read the training data of the version that a channel points to, so that the next version keeps its splits."""

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from train_job.data.example import Example, Split
from train_job.data.split import SplitShares
from train_job.pipeline.training_csvs import DATASET_CSV, DEPARTED_CSV, LEARNT_CSV, QUARANTINE_CSV
from train_job.quality.learnt_photos import LearntPhotos, learnt_held_out, learnt_photos
from train_job.store.facts_index import FactsIndex
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
        examples: the version's photos.
        learnt: photos that the weights of the version's head learnt from, its own and those of its warm starts. None
            if they are unknown.
    """

    manifest: Manifest | None = None
    splits: Mapping[str, Split] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    learnt: LearntPhotos | None = None

    @property
    def model_id(self) -> str:
        """Id of the version; empty without a version."""
        return self.manifest.model_id if self.manifest else ""

    def ordered_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """``labels`` with the previous version's classes first, in their previous order, and new classes last."""
        old = [label for label in self.manifest.labels if label in labels] if self.manifest else []
        return (*old, *(label for label in labels if label not in old))

    def warm_start_obstacle(self, examples: Sequence[Example], splits: Mapping[str, Split], facts: FactsIndex) -> str:
        """Explain why a head must not start from this version's: it learnt a photo that is now held out.

        Empty if there is no obstacle.

        Args:
            examples: photos of the new version.
            splits: split by sha256 of these photos.
            facts: facts of photos, to find near-duplicates of learnt photos that are no longer in the data.
        """
        if self.manifest is None:
            return ""
        if self.learnt is None:
            return f"cold start: {self.model_id} has no record of the photos that its warm starts learnt (learnt.csv)"
        learnt = learnt_held_out(splits, self.learnt, facts.known([*splits, *(self.learnt.keys() - splits.keys())]))
        if not learnt:
            return ""
        uris = {example.sha256: example.image for example in examples}
        return (
            f"cold start: {len(learnt)} validation or test photos, or near-duplicates of them, were learnt by"
            f" {self.model_id} or by a version that it started from; the first is {uris[learnt[0]]}."
            " Keep the split to start warm"
        )


def read_previous_version(registry: Registry, channel: str, shares: SplitShares) -> PreviousVersion:
    """Read the version that the channel points to, as far as it can be read."""
    try:
        manifest = registry.manifest(registry.channel(channel).model_id)
        examples = read_dataset_csv(registry, manifest.model_id)
        learnt = read_learnt_photos(registry, manifest, examples)
    except (NotFoundError, BundleError):
        return PreviousVersion()
    if manifest.dataset.get("shares") != str(shares):
        return PreviousVersion(manifest, {}, examples, learnt)
    splits = _splits(examples)
    with suppress(NotFoundError):  # versions from before departed.csv existed
        splits = _read_splits(registry, manifest.model_id, DEPARTED_CSV) | splits
    return PreviousVersion(manifest, splits, examples, learnt)


def read_dataset_csv(registry: Registry, model_id: str) -> list[Example]:
    """Read the photos of a version's ``training/dataset.csv``, each with its hash and split.

    Raises:
        NotFoundError: the version does not exist or has no such file.
        BundleError: the file is damaged.
    """
    rows = _read_rows(registry, f"models/{model_id}/{DATASET_CSV}", ("image", "label", "sha256", "split"))
    return [Example(image, label, sha256=sha256, split=Split(split)) for image, label, sha256, split in rows]


def read_quarantine(registry: Registry, model_id: str) -> dict[str, str]:
    """Read the code of each photo of a version's ``training/quarantine.csv``, by URI.

    Raises:
        NotFoundError: the version has no such file.
        BundleError: the file is damaged.
    """
    rows = _read_rows(registry, f"models/{model_id}/{QUARANTINE_CSV}", ("uri", "code"))
    return dict(rows)


def read_learnt_photos(registry: Registry, manifest: Manifest, examples: Sequence[Example]) -> LearntPhotos | None:
    """Read the photos that the weights of a version's head learnt from, given the version's ``examples``.

    None if they are unknown: ``learnt.csv`` is damaged, or an early release made a warm start and wrote no such file.
    """
    try:
        ancestors = _read_splits(registry, manifest.model_id, LEARNT_CSV)
    except NotFoundError:
        if manifest.training.get("warm_start"):
            return None
        ancestors = {}
    except BundleError:
        return None
    return learnt_photos(_splits(examples), ancestors)


def _splits(examples: Sequence[Example]) -> dict[str, Split]:
    return {example.sha256: example.split for example in examples if example.split is not None}


def _read_splits(registry: Registry, model_id: str, name: str) -> dict[str, Split]:
    rows = _read_rows(registry, f"models/{model_id}/{name}", ("sha256", "split"))
    return {sha256: Split(split) for sha256, split in rows}


def _read_rows(registry: Registry, key: str, columns: Sequence[str]) -> list[list[str]]:
    """Read the named columns of a CSV file; a column ``split`` must be the last one."""
    lines = csv.DictReader(io.StringIO(registry.store.get(key).data.decode(errors="surrogateescape")))
    try:
        if missing := {*columns} - {*(lines.fieldnames or ())}:
            raise ValueError(f"no column {sorted(missing)[0]!r}")
        rows = [[line[name] for name in columns] for line in lines]
        unknown = {row[-1] for row in rows if columns[-1] == "split"} - {split.value for split in Split}
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]!r} is not a split")
    except (KeyError, ValueError, csv.Error) as error:
        raise BundleError(f"cannot be read ({error})", where=f"{registry.store.uri}/{key}") from error
    return rows
