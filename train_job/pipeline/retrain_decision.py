"""What a training would find, told from labels and listings alone, before a machine is paid for.

No photo is fetched. What is new is what the feature store has no row of for this backbone, whatever the photo's size
and view: enough to tell how many machines are worth starting. Training itself decides what is missing.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from train_job.data.labels.read_labels import read_data
from train_job.options import TrainOptions
from train_job.pipeline.csv_records import read_dataset_csv
from train_job.progress import Reporter
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.errors import MissingStoreError, NotFoundError
from transferlite.registry.manifest import Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import write_uri


@dataclass(frozen=True)
class RetrainDecision:
    """What there is to do.

    Attributes:
        photos: that are labelled and there.
        new_photos: of them, those without a row of the backbone.
        new_labels: photos whose label the newest version did not learn: new ones, and those labelled otherwise now;
            not those that are known to be unusable as they are.
        shards: machines that are worth sharing the new photos out to.
        go: whether there are as many new labels as were asked for.
    """

    photos: int
    new_photos: int
    new_labels: int
    shards: int
    go: bool

    def to_json(self) -> str:
        """The form that the state machine reads."""
        return json.dumps(asdict(self))


def decide_retrain(
    options: TrainOptions, new_labels: int, max_shards: int, photos_per_shard: int, report: Reporter
) -> RetrainDecision:
    """Look at labels, listings, feature store and the newest version.

    Raises:
        InputError: labels or photos are not there, or cannot be trained on.
    """
    dataset = read_data(options, report)
    store = FeatureStore.open(options.feature_store, report.warning)
    records = store.photos().lookup([one.image for one in dataset.examples], [one.stamp for one in dataset.examples])
    new = sum(_are_new(store, options.backbone, records))
    learnt = _learnt(Registry.open(options.registry))
    labels = sum(
        learnt.get(one.image) != one.label and not (record and record.code)
        for one, record in zip(dataset.examples, records, strict=True)
    )
    shards = min(max_shards, max(1, math.ceil(new / photos_per_shard)))
    plan = RetrainDecision(len(dataset.examples), new, labels, shards, labels >= new_labels)
    report.line(
        f"{plan.photos} photos, {plan.new_photos} of them new to {options.backbone}; {plan.new_labels} labels are new "
        f"to the newest version; {plan.shards} machine{'s' if plan.shards > 1 else ''} for the rows"
    )
    if not plan.go:
        report.line(f"nothing to do: {new_labels} new labels are waited for")
    return plan


def write_decision(plan: RetrainDecision, location: str) -> None:
    """Write it where the state machine reads it."""
    write_uri(location, plan.to_json().encode())


def _are_new(store: FeatureStore, backbone: str, records: Iterable[PhotoRecord | None]) -> Iterator[bool]:
    known = [store.keys(space) for space in store.spaces() if space.backbone == backbone]
    for record in records:
        yield record is None or not (record.code or any(record.sha256 in keys for keys in known))


def _learnt(registry: Registry) -> dict[str, str]:
    """The label by URI of each photo that the newest version learnt from; none where there is no version."""
    newest = _newest(registry)
    if newest is None:
        return {}
    return {one.image: one.label for one in read_dataset_csv(registry, newest.model_id)}


def _newest(registry: Registry) -> Manifest | None:
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
            continue  # still being written, or its job died before the manifest
    return None
