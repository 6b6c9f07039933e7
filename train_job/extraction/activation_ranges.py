"""Ranges of a backbone's activations for int8, kept in the feature store: each photo is measured once."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from export.keras_to_tflite.translate_model import TRANSLATION_VERSION
from export.tflite.quantise import Calibration, full_range_picture, merge_ranges, observe, observed_tensors
from export.tflite.tflite_file import read_tflite
from train_job.data.example import Example
from train_job.extraction.backbone_files import BackboneFiles
from train_job.sigterm import StopRequest
from train_job.store.feature_store import FeatureSpace, FeatureStore
from train_job.store.pixel_cache import decoded_photos
from transferlite.errors import GateError, UnavailableError
from transferlite.images.decoder import RGB

_LARGEST = float(np.finfo(np.float16).max)


def calibrate(
    files: BackboneFiles, examples: Sequence[Example], pixels: FeatureStore, ranges: FeatureStore, stop: StopRequest
) -> Calibration:
    """Measure the activations of ``files.tflite`` for training photos; only photos without stored ranges are run.

    Args:
        files: the backbone.
        examples: photos whose pixels can be had.
        pixels: feature store that caches the decoded photos.
        ranges: feature store that keeps the ranges.
        stop: the job's flag.

    Raises:
        GateError: an activation is not a finite number.
        StoppedError: the job was stopped.
        UnavailableError: a photo is gone, or stored ranges disappear while they are read.
    """
    model = read_tflite(files.tflite)
    (graph,) = model.subgraphs
    activations, width = len(observed_tensors(model)), int(graph.tensors[graph.outputs[0]].shape[-1])
    engine = f"litert {TRANSLATION_VERSION}"
    space = FeatureSpace(*files.identity, files.spec, 2 * activations + width, "activation-ranges", engine=engine)
    picture = full_range_picture(files.spec)
    by_hash = {hashlib.sha256(picture.data).hexdigest(): None} | {example.sha256: example for example in examples}
    known = ranges.row_index(space)
    new = {sha256: example for sha256, example in by_hash.items() if sha256 not in known}
    if new:
        images = _images(picture, list(new.values()), files, pixels, stop)
        ranges.add(space, list(new), np.stack([_row(*found) for found in observe(files.tflite, images)]))
    table = np.zeros((len(by_hash), space.width), np.float16)
    if ranges.read(space, list(by_hash), table):
        raise UnavailableError("ranges were deleted while they were read", where=ranges.store.uri, hint="run it again")
    stored = table.astype(np.float32)
    merged = merge_ranges(list(stored[:, : 2 * activations].reshape(-1, activations, 2)))
    return Calibration(merged, stored[1:, 2 * activations :])


def _images(
    picture: RGB, examples: Sequence[Example | None], files: BackboneFiles, pixels: FeatureStore, stop: StopRequest
) -> Iterator[RGB]:
    """The image of each photo; that of None is the generated ``picture``."""
    photos = decoded_photos([example for example in examples if example is not None], files.spec, pixels)
    for example in examples:
        stop.check()
        yield picture if example is None else next(photos)


def _row(ranges: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float16]:
    """Ranges ``[A, 2]`` and feature row ``[D]`` as one row of the store, within the range of float16.

    float16 changes a range by 0.05% at most, an eighth of an int8 step.
    """
    row = np.concatenate([ranges.reshape(-1), features])
    if not np.isfinite(row).all():
        raise GateError("the backbone's activations are not finite numbers", where="int8", hint="use other --weights")
    clipped: NDArray[np.float16] = np.clip(row, -_LARGEST, _LARGEST).astype(np.float16)
    return clipped
