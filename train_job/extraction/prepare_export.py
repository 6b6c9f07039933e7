"""Prepare the export while the head trains: everything that does not depend on the head's weights."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from export.tflite.quantise import Calibration
from train_job.data.dataset import Dataset
from train_job.data.example import Example, Split
from train_job.extraction.activation_ranges import calibrate
from train_job.extraction.backbone_files import BackboneFiles
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.sigterm import StopRequest
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, available_photos, balanced_sample
from transferlite.inference.variants import INT8
from transferlite.storage.store import MemoryStore

CALIBRATION_PHOTOS = 100
"""Training photos that set the ranges of int8 activations."""


@dataclass(frozen=True)
class PreparedExport:
    """What the export needs besides the head.

    Attributes:
        files: the backbone's files.
        tflite: its float32 TFLite file.
        saved_model: its traced SavedModel with an empty head.
        proven: whether an earlier job compared the traced SavedModel with the Keras model.
        calibration_photos: training photos that set int8's ranges; empty without int8.
        calibration: int8's ranges; None without int8.
        gate_photos: photos that the gate compares the files on.
        replaced: photos that were gone or had changed, and were replaced by the next ones.
    """

    files: BackboneFiles
    tflite: bytes
    saved_model: bytes
    proven: bool
    calibration_photos: Sequence[Example]
    calibration: Calibration | None
    gate_photos: Sequence[Example]
    replaced: int

    def keep_saved_model(self, head: Any) -> None:
        """Keep the traced SavedModel for later jobs, after the gate has compared it with the Keras model."""
        self.files.store_saved_model(head, self.saved_model)


@dataclass(frozen=True)
class ExportPreparation:
    """Work of the export that does not depend on the head's weights.

    Attributes:
        options: the job's options.
        dataset: usable photos.
        splits: split of each photo by its sha256.
        files: the backbone's files.
        head: the head; only its layers matter here.
        is_frozen: whether ranges of activations are kept for later jobs.
        report: receives warnings about the feature store.
        stop: the job's flag.
    """

    options: TrainOptions
    dataset: Dataset
    splits: Mapping[str, Split]
    files: BackboneFiles
    head: Any
    is_frozen: bool
    report: Reporter
    stop: StopRequest

    def start(self) -> Future[PreparedExport]:
        """Start the work on a thread."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="prepare-export")
        future = pool.submit(self._prepare)
        pool.shutdown(wait=False)
        return future

    def _prepare(self) -> PreparedExport:
        files, store = self.files, FeatureStore.open(self.options.feature_store, self.report.warning)
        gate_split = Split.TEST if Split.TEST in self.splits.values() else Split.TRAIN
        gate_photos, lost = self._sample(gate_split, MAX_GATE_PHOTOS, store)
        calibration, calibration_photos = None, list[Example]()
        if INT8 in self.options.variants:
            calibration_photos, lost_training = self._sample(Split.TRAIN, CALIBRATION_PHOTOS, store)
            lost |= lost_training
            ranges = store if self.is_frozen else FeatureStore(MemoryStore(), self.report.warning)
            calibration = calibrate(files, calibration_photos, store, ranges, self.stop)
        self.stop.check()
        known = files.stored_saved_model(self.head)
        return PreparedExport(
            files=files,
            tflite=files.tflite,
            saved_model=known or files.trace_saved_model(self.head),
            proven=known is not None,
            calibration_photos=calibration_photos,
            calibration=calibration,
            gate_photos=gate_photos,
            replaced=len(lost),
        )

    def _sample(self, split: Split, max_photos: int, store: FeatureStore) -> tuple[list[Example], set[str]]:
        """Sample photos of a split evenly over the classes, in the order of their hash: photos of one day look alike.

        A photo that is gone or has changed is replaced by the next of its class. Also returns the hashes of those.
        """
        chosen = [example for example in self.dataset.examples if self.splits[example.sha256] is split]
        shuffled = sorted(chosen, key=lambda example: (example.sha256, example.image))
        lost: set[str] = set()
        while True:
            sample = balanced_sample(shuffled, self.dataset.labels, max_photos)
            available = {example.sha256 for example in available_photos(sample, self.files.spec, store)}
            gone = {example.sha256 for example in sample} - available
            if not gone:
                return sample, lost
            lost |= gone
            shuffled = [example for example in shuffled if example.sha256 not in lost]
