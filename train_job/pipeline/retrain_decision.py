"""Decide from labels and listings whether to retrain, and on how many machines: the ``transferlite plan`` command.

No photo is fetched. A photo is new if the feature store has no row of it for the backbone, in any input size or view:
enough to choose the number of machines. The training itself finds out which rows are missing.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from train_job.data.labels.read_labels import read_job_dataset
from train_job.options import TrainOptions
from train_job.pipeline.previous_version import read_dataset_csv
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.errors import MissingStoreError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import write_uri


@dataclass(frozen=True)
class RetrainDecision:
    """Whether to retrain, and the numbers behind it.

    Attributes:
        photos: labelled photos that exist.
        new_photos: photos without a feature row of the backbone.
        new_labels: photos that are new, or have another label, since the newest version; without those that are known
            to be unusable.
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
    previous = _labels_of_newest_version(Registry.open(options.registry))
    labels = sum(
        previous.get(example.image) != example.label and not (record and record.code)
        for example, record in zip(dataset.examples, records, strict=True)
    )
    shards = min(max_shards, max(1, math.ceil(photos / photos_per_shard)))
    decision = RetrainDecision(len(dataset.examples), photos, labels, shards, labels >= new_labels)
    _report(decision, options.backbone, new_labels, report)
    return decision


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


def _labels_of_newest_version(registry: Registry) -> dict[str, str]:
    """Return the label by URI of each photo of the newest version; empty without a version."""
    newest = _newest_manifest(registry)
    if newest is None:
        return {}
    return {photo.image: photo.label for photo in read_dataset_csv(registry, newest.model_id)}


def _newest_manifest(registry: Registry) -> Manifest | None:
    try:
        ids = sorted(registry.store.children("models/"), reverse=True)
    except MissingStoreError:
        raise
    except NotFoundError:
        return None
    for model_id in ids:
        try:
            return registry.manifest(model_id)
        except MissingStoreError:
            raise
        except NotFoundError:
            continue  # the version is not complete: its manifest is written last
    return None
