"""Decide from labels and listings whether to retrain, and on how many machines: the ``transferlite plan`` command.

No photo is fetched. The number of machines depends on the photos without a feature row of the backbone, in any input
size or view; the training itself finds out which rows are missing.

A new label is a label that a training would learn and that the newest version has not learnt. Photos are compared by
content as far as the feature store knows it, so exact copies, conflicting labels and rejected photos never count.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from train_job.arrow import pc
from train_job.data.labels.read_labels import read_job_dataset
from train_job.data.photos import Photos
from train_job.options import TrainOptions
from train_job.pipeline.previous_version import read_dataset_csv, read_quarantine
from train_job.progress import Reporter
from train_job.quality.duplicates import deduplicate
from train_job.quality.label_changes import find_label_changes
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import KnownPhotos
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
    index = store.photos()
    known = index.find(dataset.examples)
    photos = int(_are_new_photos(store, options.backbone, known).sum())
    newest = _read_newest_version(Registry.open(options.registry))
    labels = _count_new_labels(dataset.examples, known, newest, has_index=len(index) > 0)
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


def _are_new_photos(store: FeatureStore, backbone: str, known: KnownPhotos) -> NDArray[np.bool_]:
    """Which photos have no feature row of the backbone and are not known as rejected, ``[N]``."""
    is_new = np.ones(len(known.known), bool)
    is_new[list(known.rejected)] = False
    for space in store.spaces():
        if space.backbone == backbone:
            is_new &= store.row_index(space).parts_of(known.digests) < 0
    return is_new


@dataclass(frozen=True)
class _NewestVersion:
    """What the newest version learnt: its photos, and the codes of its rejected photos by URI."""

    photos: Photos = field(default_factory=lambda: Photos.of(()))
    rejected: Mapping[str, str] = field(default_factory=dict)


def _count_new_labels(photos: Photos, known: KnownPhotos, newest: _NewestVersion, has_index: bool) -> int:
    """Count the labels that a training would learn and that the newest version has not learnt.

    A photo of known content counts by its content: once for all its copies, and not at all under conflicting labels.
    An unknown photo counts, because only a training can find out its content. Exceptions are photos that a training
    fetches again and again without success, and photos without a stamp or without any photo index, which are compared
    by URI.
    """
    usable = known.known.copy()
    usable[list(known.rejected)] = False
    unique = deduplicate(photos.with_digests(known.digests).take(usable)).examples
    changes = find_label_changes("", newest.photos, unique)
    count = len(unique) - sum(changes.common.values()) + len(changes.changed)
    unknown = photos.take(~known.known)
    learnt = newest.photos.take(np.array(pc.is_in(newest.photos.uris, value_set=unknown.uris), bool))
    labels = {example.image: example.label for example in learnt}
    for example in unknown:
        if has_index and example.stamp:
            count += newest.rejected.get(example.image) not in _RETRIED_CODES
        else:
            count += labels.get(example.image) != example.label and example.image not in newest.rejected
    return count


def _read_newest_version(registry: Registry) -> _NewestVersion:
    """Read what the newest trained version learnt; empty without one."""
    manifest = _newest_trained(registry)
    if manifest is None:
        return _NewestVersion()
    rejected: dict[str, str] = {}
    with suppress(NotFoundError):
        rejected = read_quarantine(registry, manifest.model_id)
    return _NewestVersion(read_dataset_csv(registry, manifest.model_id), rejected)


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
