"""Decide from labels and listings whether to retrain, and on how many machines: the ``transferlite plan`` command.

No photo is fetched. The number of machines depends on the photos without a feature row of the backbone, in any input
size or view; the training itself finds out which rows are missing.

A new label is a label that a training would learn and that the newest version has not learnt. Photos are compared by
content as far as the feature store knows it, so exact copies, conflicting labels and rejected photos never count.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from train_job.data.example import Example
from train_job.data.labels.read_labels import read_job_dataset
from train_job.options import TrainOptions
from train_job.pipeline.previous_version import read_dataset_csv, read_quarantine
from train_job.progress import Reporter
from train_job.quality.duplicates import deduplicate
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.errors import MissingStoreError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import write_uri

MAX_SHARDS = 128
"""Machines beyond which each spends more time on the listing of all photos, 1,000 per page, than on its own photos:
``python -m benchmarks.aws.scale``."""
_RETRIED_CODES = {"forbidden", "unusable", "missing-decoder"}
"""Codes of photos that exist, and that every training fetches again because the photo index does not keep them."""


@dataclass(frozen=True)
class RetrainDecision:
    """Whether to retrain, and the numbers behind it.

    Attributes:
        photos: labelled photos that exist.
        new_photos: photos without a feature row of the backbone.
        new_labels: labels that a training would learn and that the newest version has not learnt.
        shards: machines to extract the features of the new photos on.
        go: whether there are enough new labels to retrain.
    """

    photos: int
    new_photos: int
    new_labels: int
    shards: int
    go: bool

    def to_json(self) -> str:
        """Return the decision as JSON for the state machine."""
        return json.dumps(asdict(self))


def decide_retrain(
    options: TrainOptions, new_labels: int, max_shards: int, photos_per_shard: int, report: Reporter
) -> RetrainDecision:
    """Compare labels and listings with the feature store and the newest version.

    Args:
        options: the options of the training.
        new_labels: minimum new labels to retrain.
        max_shards: maximum machines.
        photos_per_shard: new photos for each machine.
        report: receives the numbers.

    Raises:
        InputError: labels or photos do not exist, or are too few to train on.
    """
    dataset = read_job_dataset(options, report)
    store = FeatureStore.open(options.feature_store, report.warning)
    uris = [example.image for example in dataset.examples]
    stamps = [example.stamp for example in dataset.examples]
    records = store.photos().lookup(uris, stamps)
    photos = sum(_are_new_photos(store, options.backbone, records))
    newest = _read_newest_version(Registry.open(options.registry))
    labels = _count_new_labels(dataset.examples, records, newest, has_index=len(store.photos()) > 0)
    shards = count_shards(photos, max_shards, photos_per_shard)
    decision = RetrainDecision(len(dataset.examples), photos, labels, shards, labels >= new_labels)
    _report(decision, options.backbone, new_labels, report)
    return decision


def count_shards(new_photos: int, max_shards: int, photos_per_shard: int) -> int:
    """Number of machines to extract the features of ``new_photos`` on, at most :data:`MAX_SHARDS`."""
    return min(max_shards, MAX_SHARDS, max(1, math.ceil(new_photos / photos_per_shard)))


def _report(decision: RetrainDecision, backbone: str, min_new_labels: int, report: Reporter) -> None:
    machines = f"{decision.shards} machine{'s' if decision.shards > 1 else ''}"
    report.line(
        f"{decision.photos} photos; {decision.new_photos} without features of {backbone}, for {machines};"
        f" {decision.new_labels} new labels since the newest version"
    )
    if not decision.go:
        report.line(f"Not training: {decision.new_labels} new labels, fewer than --new-labels {min_new_labels}")


def write_decision(decision: RetrainDecision, location: str) -> None:
    """Write the decision to ``location`` for the state machine."""
    write_uri(location, decision.to_json().encode())


def _are_new_photos(store: FeatureStore, backbone: str, records: Iterable[PhotoRecord | None]) -> Iterator[bool]:
    known = [store.row_index(space) for space in store.spaces() if space.backbone == backbone]
    for record in records:
        yield record is None or not (record.code or any(record.sha256 in keys for keys in known))


@dataclass(frozen=True)
class _NewestVersion:
    """What the newest version learnt: labels by sha256 and by URI, and the codes of its rejected photos by URI."""

    by_content: Mapping[str, str] = field(default_factory=dict)
    by_uri: Mapping[str, str] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)


def _count_new_labels(
    examples: Sequence[Example], records: Sequence[PhotoRecord | None], newest: _NewestVersion, has_index: bool
) -> int:
    """Count the labels that a training would learn and that the newest version has not learnt.

    A photo of known content counts by its content: once for all its copies, and not at all under conflicting labels.
    An unknown photo counts, because only a training can find out its content. Exceptions are photos that a training
    fetches again and again without success, and photos without a stamp or without any photo index, which are compared
    by URI.
    """
    pairs = list(zip(examples, records, strict=True))
    known = [replace(example, sha256=record.sha256) for example, record in pairs if record and not record.code]
    unknown = [example for example, record in pairs if record is None]
    count = sum(newest.by_content.get(example.sha256) != example.label for example in deduplicate(known).examples)
    for example in unknown:
        if has_index and example.stamp:
            count += newest.rejected.get(example.image) not in _RETRIED_CODES
        else:
            count += newest.by_uri.get(example.image) != example.label and example.image not in newest.rejected
    return count


def _read_newest_version(registry: Registry) -> _NewestVersion:
    """Read what the newest trained version learnt; empty without one."""
    manifest = _newest_trained(registry)
    if manifest is None:
        return _NewestVersion()
    photos = read_dataset_csv(registry, manifest.model_id)
    rejected: dict[str, str] = {}
    with suppress(NotFoundError):
        rejected = read_quarantine(registry, manifest.model_id)
    return _NewestVersion(
        {photo.sha256: photo.label for photo in photos}, {photo.image: photo.label for photo in photos}, rejected
    )


def _newest_trained(registry: Registry) -> Manifest | None:
    try:
        ids = sorted(registry.store.children("models/"), reverse=True)
    except MissingStoreError:
        raise
    except NotFoundError:
        return None
    for model_id in ids:
        try:
            manifest = registry.manifest(model_id)
        except MissingStoreError:
            raise
        except NotFoundError:
            continue  # the version is not complete: its manifest is written last
        if not manifest.pretrained:
            return manifest
    return None
