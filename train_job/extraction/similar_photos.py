"""Find the photos of a location that look most like a given photo, by their feature rows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train_job.data.example import Example
from train_job.digests import Digests
from train_job.store.feature_store import FeatureRows, FeatureSpace, FeatureStore
from train_job.store.nearest_rows import nearest_rows
from transferlite.errors import InputError, NotFoundError
from transferlite.images.find_photos import is_photo
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri


@dataclass(frozen=True)
class SimilarPhoto:
    """A photo that looks like another: its URI, and the cosine similarity of their feature rows, at most 1."""

    image: str
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"image": self.image, "similarity": round(self.similarity, 4)}


def list_photos(location: str) -> list[Example]:
    """List the photos below a location, without labels.

    Raises:
        NotFoundError: there are none.
    """
    store = open_store(location)
    photos = [
        Example(join_uri(store.uri, entry.key), "", stamp=entry.stamp)
        for entry in store.entries()
        if is_photo(entry.key)
    ]
    if not photos:
        raise NotFoundError("holds no photos", where=location, hint="check --images")
    return photos


def similar_photos(
    query: Example, photos: Sequence[Example], store: FeatureStore, space: FeatureSpace, count: int
) -> list[SimilarPhoto]:
    """Find the ``count`` photos most similar to ``query``, the most similar first; exact copies are listed too.

    All rows of the space are read once, part by part. ``query`` itself is left out.

    Args:
        query: a photo with its sha256.
        photos: photos with their sha256.
        store: the feature store, which holds the rows of all of them.
        space: the space of the rows.
        count: maximum number of photos to find.

    Raises:
        InputError: the store has no row of ``query``.
    """
    uris: dict[bytes, list[str]] = defaultdict(list)
    for photo in photos:
        if photo.image != query.image:
            uris[bytes.fromhex(photo.sha256)].append(photo.image)
    rows = np.empty((1, space.width), np.float16)
    if store.read(space, [query.sha256], rows):
        raise InputError("has no row in the feature store", where=query.image, hint="run the command again")
    parts = _StreamedParts(store.stream(space))
    found = nearest_rows(rows, parts.rows(), 2 * count, lambda position: parts.digest(position) in uris)[0]
    nearest = {parts.digest(position): similarity for position, similarity in reversed(found)}  # without repeated rows
    ranked = sorted(nearest.items(), key=lambda item: -item[1])
    return [SimilarPhoto(uri, similarity) for digest, similarity in ranked for uri in uris[digest]][:count]


class _StreamedParts:
    """The rows of a stream of parts, and the digests of those read so far: 32 bytes a row."""

    def __init__(self, stream: Iterator[tuple[Digests, FeatureRows]]) -> None:
        self._stream = stream
        self._digests: list[Digests] = []
        self._starts = [0]

    def rows(self) -> Iterator[FeatureRows]:
        """Yield the rows of each part."""
        for digests, rows in self._stream:
            self._digests.append(digests.copy())
            self._starts.append(self._starts[-1] + len(digests))
            yield rows

    def digest(self, position: int) -> bytes:
        """Return the digest of a row by its position in the stream."""
        part = int(np.searchsorted(self._starts, position, "right")) - 1
        index = position - self._starts[part]
        return bytes(self._digests[part][index : index + 1])  # a single item would lose zeros at its end
