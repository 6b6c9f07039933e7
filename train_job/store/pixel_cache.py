"""Decoded photos for the calibration and the gate of the export, cached in the feature store like feature rows.

Pixels are integers up to 255, which float16 represents exactly. So a retrain downloads no known photo, and a photo may
change while a job is running.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from train_job.data.example import Example
from train_job.data.load_photos import DecodedPhoto, load_photos
from train_job.data.photos import Photos
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import UnavailableError
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec

MAX_GATE_PHOTOS = 1000
"""Maximum photos on which the gate compares exported models."""

_PART_BYTES = 2**26
"""Pixels that are written at a time: 64 MiB, 223 photos of 224x224 or 2 of 2048x2048."""
_ATTEMPTS = 3


def balanced_sample(examples: Sequence[Example], labels: Sequence[str], max_photos: int) -> list[Example]:
    """Take up to ``max_photos`` examples from the classes in turn, in the given order within a class."""
    photos = Photos.of(examples)
    classes = photos.class_indices(labels)
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes[classes >= 0], minlength=len(labels))
    starts = np.cumsum(counts) - counts + int((classes < 0).sum())
    turn = np.empty(len(photos), np.int64)  # the how-manieth of its class a photo is
    turn[by_class] = np.arange(len(photos)) - np.repeat(
        np.concatenate([[0], starts]), np.concatenate([[int((classes < 0).sum())], counts])
    )
    known = np.flatnonzero(classes >= 0)
    return list(photos.take(known[np.lexsort((classes[known], turn[known]))][:max_photos]))


def decoded_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> Iterator[RGB]:
    """Yield each photo as uint8 RGB ``[H, W, 3]``, in order; photos not cached yet are fetched and cached first.

    Raises:
        UnavailableError: a photo is gone or has changed since its sha256 was computed.
    """
    shape = (spec.height, spec.width, 3)
    space = _space(spec)
    hashes = [example.sha256 for example in examples]
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        path = Path(folder, "pixels.npy")
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (max(1, len(examples)), space.width))
        for _ in range(_ATTEMPTS):
            if lost := _cache_missing(examples, spec, store):
                changed = next(example.image for example in examples if example.sha256 in lost)
                raise UnavailableError(
                    "the photo changed while the job was running", where=changed, hint="run it again"
                )
            if not store.read(space, hashes, rows[: len(examples)]):
                break
        else:
            raise UnavailableError(
                "cached photos were deleted while they were read", where=store.store.uri, hint="run it again"
            )
        for row in rows[: len(examples)]:
            yield row.reshape(shape).astype(np.uint8)


def available_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[Example]:
    """Return the examples that :func:`decoded_photos` can yield: cached ones, and those that have not changed."""
    lost = set(_cache_missing(examples, spec, store))
    return [example for example in examples if example.sha256 not in lost]


def cached_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[Example]:
    """Return the examples whose pixels are cached."""
    known = store.row_index(_space(spec))
    return [example for example in examples if example.sha256 in known]


def _cache_missing(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[str]:
    """Cache the pixels of photos not cached yet; return the sha256s of photos that are gone or have changed."""
    space = _space(spec)
    known = store.row_index(space)
    new = list({example.sha256: example for example in examples if example.sha256 not in known}.values())
    photos = zip(new, load_photos(new, spec), strict=True)
    lost: list[str] = []
    while chunk := list(islice(photos, max(1, _PART_BYTES // (2 * space.width)))):
        pixels = {
            example.sha256: photo.image.reshape(-1)
            for example, photo in chunk
            if isinstance(photo, DecodedPhoto) and photo.example.sha256 == example.sha256
        }
        lost += [example.sha256 for example, _ in chunk if example.sha256 not in pixels]
        if pixels:
            store.add(space, list(pixels), np.stack(list(pixels.values())).astype(np.float16))
    return lost


def _space(spec: InputSpec) -> FeatureSpace:
    return FeatureSpace("", "", spec, spec.height * spec.width * 3, layer="pixels")
