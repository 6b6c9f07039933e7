"""Decode a sample of the photos at a location that need no labels."""

import hashlib
from collections.abc import Iterator
from itertools import islice

from train_job.progress import Reporter
from transferlite.errors import NotFoundError, TransferLiteError
from transferlite.images.decoder import RGB, decode
from transferlite.images.find_photos import find_photos
from transferlite.images.input_spec import READ_BYTES, InputSpec
from transferlite.storage.locations import read_uri
from transferlite.storage.prefetch import prefetch_map


def sample_photos(location: str, spec: InputSpec, max_photos: int, report: Reporter) -> list[RGB]:
    """Decode up to ``max_photos`` photos, uint8 ``[H, W, 3]``, drawn by the hash of their names.

    The sample of the same photos is always the same. A photo that cannot be used is reported and replaced.

    Raises:
        NotFoundError: the location does not exist or holds no usable photo.
    """
    names = sorted(
        find_photos(location, lambda error: report.warning(f"photo left out: {error}")),
        key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest(),
    )
    images = list(islice(_decode_usable(names, spec, report), max_photos))
    if not images:
        raise NotFoundError("holds no usable photo", where=location, hint="pass another --images")
    return images


def _decode_usable(names: list[str], spec: InputSpec, report: Reporter) -> Iterator[RGB]:
    def fetch_and_decode(name: str) -> RGB | TransferLiteError:
        try:
            return decode(read_uri(name, READ_BYTES), spec, where=name)
        except TransferLiteError as error:
            return error

    for image in prefetch_map(fetch_and_decode, names):
        if isinstance(image, TransferLiteError):
            report.warning(f"photo left out: {image}")
        else:
            yield image
