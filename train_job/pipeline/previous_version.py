"""Read the training data of the version that a channel points to, so that the next version keeps its splits."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from train_job.arrow import pa, pc
from train_job.data.photos import SPLITS, Photos, decode_text, text_column
from train_job.data.split import SplitShares
from train_job.data.split_table import SplitTable
from train_job.digests import Digests
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
    splits: SplitTable = field(default_factory=SplitTable)
    examples: Photos = field(default_factory=lambda: Photos.of(()))
    learnt: LearntPhotos | None = None

    @property
    def model_id(self) -> str:
        """Id of the version; empty without a version."""
        return self.manifest.model_id if self.manifest else ""

    def ordered_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """``labels`` with the previous version's classes first, in their previous order, and new classes last."""
        old = [label for label in self.manifest.labels if label in labels] if self.manifest else []
        return (*old, *(label for label in labels if label not in old))

    def warm_start_obstacle(self, photos: Photos, splits: SplitTable, facts: FactsIndex) -> str:
        """Explain why a head must not start from this version's: it learnt a photo that is now held out.

        Empty if there is no obstacle.

        Args:
            photos: photos of the new version.
            splits: split by sha256 of these photos.
            facts: facts of photos, to find near-duplicates of learnt photos that are no longer in the data.
        """
        if self.manifest is None:
            return ""
        if self.learnt is None:
            return f"cold start: {self.model_id} has no record of the photos that its warm starts learnt (learnt.csv)"
        learnt = learnt_held_out(splits, self.learnt, facts)
        if not learnt:
            return ""
        first = photos[int(np.flatnonzero(photos.digests == bytes.fromhex(learnt[0]))[0])]
        return (
            f"cold start: {len(learnt)} validation or test photos, or near-duplicates of them, were learnt by"
            f" {self.model_id} or by a version that it started from; the first is {first.image}."
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
        return PreviousVersion(manifest, SplitTable(), examples, learnt)
    splits = _splits(examples)
    with suppress(NotFoundError):  # versions from before departed.csv existed
        splits = splits.or_else(_read_splits(registry, manifest.model_id, DEPARTED_CSV))
    return PreviousVersion(manifest, splits, examples, learnt)


def read_dataset_csv(registry: Registry, model_id: str) -> Photos:
    """Read the photos of a version's ``training/dataset.csv``, each with its hash and split.

    Raises:
        NotFoundError: the version does not exist or has no such file.
        BundleError: the file is damaged.
    """
    table = _read_csv(registry, f"models/{model_id}/{DATASET_CSV}", ("image", "label", "sha256", "split"))
    labels = table.column("label").combine_chunks().dictionary_encode()
    names, uris = map(decode_text, labels.dictionary.to_pylist()), table.column("image").combine_chunks()
    stamps = pa.repeat(pa.scalar(b"", pa.large_binary()), len(table))
    splits = _splits_of(table)
    digests = _digests_of(table)
    return Photos.from_columns(uris, stamps, list(names), labels.indices.to_numpy(), None, splits, digests)


def read_quarantine(registry: Registry, model_id: str) -> dict[str, str]:
    """Read the code of each photo of a version's ``training/quarantine.csv``, by URI.

    Raises:
        NotFoundError: the version has no such file.
        BundleError: the file is damaged.
    """
    table = _read_csv(registry, f"models/{model_id}/{QUARANTINE_CSV}", ("uri", "code"))
    uris, codes = (map(decode_text, column.to_pylist()) for column in table.columns)
    return dict(zip(uris, codes, strict=True))


def read_learnt_photos(registry: Registry, manifest: Manifest, examples: Photos) -> LearntPhotos | None:
    """Read the photos that the weights of a version's head learnt from, given the version's ``examples``.

    None if they are unknown: ``learnt.csv`` is damaged, or an early release made a warm start and wrote no such file.
    """
    try:
        ancestors = _read_splits(registry, manifest.model_id, LEARNT_CSV)
    except NotFoundError:
        if manifest.training.get("warm_start"):
            return None
        ancestors = LearntPhotos()
    except BundleError:
        return None
    return learnt_photos(_splits(examples), ancestors)


def _splits(photos: Photos) -> SplitTable:
    return SplitTable.from_columns(photos.digests, photos.split_codes)


def _read_splits(registry: Registry, model_id: str, name: str) -> SplitTable:
    table = _read_csv(registry, f"models/{model_id}/{name}", ("sha256", "split"))
    return SplitTable.from_columns(_digests_of(table), _splits_of(table))


def _digests_of(table: pa.Table) -> Digests:
    return np.frombuffer(bytes.fromhex(b"".join(table.column("sha256").to_pylist()).decode()), "S32")


def _splits_of(table: pa.Table) -> NDArray[np.int8]:
    codes = pc.index_in(table.column("split"), value_set=text_column(SPLITS))
    return np.array(pc.fill_null(codes, -1), np.int8)


def _read_csv(registry: Registry, key: str, columns: Sequence[str]) -> pa.Table:
    """Read the named columns of a CSV file, as large binary."""
    options = pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.large_binary()), include_columns=columns)
    data = pa.BufferReader(registry.store.get(key).data)
    try:
        table = pa_csv.read_csv(
            data, parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=options
        )
        lengths = pc.binary_length(table.column("sha256")) if "sha256" in columns else pa.array([64])
        if pc.all(pc.equal(lengths, 64)).as_py() is False:
            raise ValueError("a sha256 has 64 hexadecimal digits")
        if "split" in columns and (_splits_of(table) < 0).any():
            raise ValueError(f"a split is none of {', '.join(SPLITS)}")
    except (pa.ArrowException, ValueError) as error:
        raise BundleError(f"cannot be read ({error})", where=f"{registry.store.uri}/{key}") from error
    return table
