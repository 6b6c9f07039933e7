"""The decoded photos that the export is calibrated with and judged on, kept in the feature store like any row.

Pixels are whole numbers up to 255, which float16 holds exactly. So a retrain downloads no photo that it knows, and a
photo that changes while a job is running does not matter.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from runtime.errors import UnavailableError
from runtime.imaging import RGB, InputSpec
from train_job.dataset import Example
from train_job.feature_store import FeatureStore, Space
from train_job.loading import Photo, load_photos

_PART_PHOTOS = 128
_ATTEMPTS = 3


def decoded(examples: Sequence[Example], spec: InputSpec, store: FeatureStore) -> Iterator[RGB]:
    """Each photo as uint8 RGB ``[H, W, 3]``, in order; those not kept yet are fetched, decoded and kept.

    Raises:
        UnavailableError: a photo has gone or changed since it was looked at.
    """
    shape = (spec.height, spec.width, 3)
    space = Space("", "", spec, int(np.prod(shape)), layer="pixels")
    hashes = [example.sha256 for example in examples]
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        path = Path(folder, "pixels.npy")
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (max(1, len(examples)), space.width))
        for _ in range(_ATTEMPTS):
            _keep(examples, space, store)
            if not store.read(space, hashes, rows[: len(examples)]):
                break
        else:
            raise UnavailableError("photos vanish as they are written", where=store.store.uri, hint="run it again")
        for row in rows[: len(examples)]:
            yield row.reshape(shape).astype(np.uint8)


def _keep(examples: Sequence[Example], space: Space, store: FeatureStore) -> None:
    known = store.keys(space)
    new = list({example.sha256: example for example in examples if example.sha256 not in known}.values())
    photos = zip(new, load_photos(new, space.input), strict=True)
    while chunk := list(islice(photos, _PART_PHOTOS)):
        for example, photo in chunk:
            if not isinstance(photo, Photo) or photo.example.sha256 != example.sha256:
                raise UnavailableError(
                    "the photo changed while the job was running", where=example.image, hint="run it again"
                )
        images = [photo.image.reshape(-1) for _, photo in chunk if isinstance(photo, Photo)]
        store.add(space, [example.sha256 for example, _ in chunk], np.stack(images).astype(np.float16))
