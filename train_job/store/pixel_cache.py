"""The decoded photos that the export is calibrated with and judged on, kept in the feature store like any row.

Pixels are whole numbers up to 255, which float16 holds exactly. So a retrain downloads no photo that it knows, and a
photo that changes while a job is running does not matter.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from train_job.data.dataset import Example
from train_job.data.load_photos import Photo, load_photos
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import UnavailableError
from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec

MAX_GATE_PHOTOS = 1000
"""Photos on which exported models are judged, at most."""

_PART_PHOTOS = 128
_ATTEMPTS = 3


def balanced_sample(examples: Sequence[Example], labels: Sequence[str], most: int) -> list[Example]:
    """Up to ``most`` of the examples, taken from the classes in turn, each class in the order given."""
    queues = [[example for example in examples if example.label == label] for label in labels]
    longest = max((len(queue) for queue in queues), default=0)
    in_turn = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return in_turn[:most]


def decoded_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> Iterator[RGB]:
    """Each photo as uint8 RGB ``[H, W, 3]``, in order; those not kept yet are fetched, decoded and kept.

    Raises:
        UnavailableError: a photo has gone or changed since it was looked at.
    """
    shape = (spec.height, spec.width, 3)
    space = _space(spec)
    hashes = [example.sha256 for example in examples]
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        path = Path(folder, "pixels.npy")
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (max(1, len(examples)), space.width))
        for _ in range(_ATTEMPTS):
            if lost := _keep(examples, spec, store):
                changed = next(example.image for example in examples if example.sha256 in lost)
                raise UnavailableError(
                    "the photo changed while the job was running", where=changed, hint="run it again"
                )
            if not store.read(space, hashes, rows[: len(examples)]):
                break
        else:
            raise UnavailableError("photos vanish as they are written", where=store.store.uri, hint="run it again")
        for row in rows[: len(examples)]:
            yield row.reshape(shape).astype(np.uint8)


def available_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[Example]:
    """Those of the examples that :func:`decoded_photos` can give: kept already, or still at their place and as they were."""
    lost = set(_keep(examples, spec, store))
    return [example for example in examples if example.sha256 not in lost]


def cached_photos(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[Example]:
    """Those of the examples that need not be fetched any more."""
    known = store.keys(_space(spec))
    return [example for example in examples if example.sha256 in known]


def _keep(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> list[str]:
    """Keep the pixels of those that are not kept yet; returns the hashes of photos that have gone or changed."""
    space = _space(spec)
    known = store.keys(space)
    new = list({example.sha256: example for example in examples if example.sha256 not in known}.values())
    photos = zip(new, load_photos(new, spec), strict=True)
    lost: list[str] = []
    while chunk := list(islice(photos, _PART_PHOTOS)):
        good = {
            example.sha256: photo.image.reshape(-1)
            for example, photo in chunk
            if isinstance(photo, Photo) and photo.example.sha256 == example.sha256
        }
        lost += [example.sha256 for example, _ in chunk if example.sha256 not in good]
        if good:
            store.add(space, list(good), np.stack(list(good.values())).astype(np.float16))
    return lost


def _space(spec: InputSpec) -> FeatureSpace:
    return FeatureSpace("", "", spec, spec.height * spec.width * 3, layer="pixels")
