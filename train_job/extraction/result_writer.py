"""Collect what an extraction finds out about photos, and write it to the feature store in parts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train_job.data.augmentation import PLAIN
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.load_photos import CONTENT_CODES
from train_job.data.photo_facts import PhotoFacts
from train_job.store.feature_store import FeatureSpace, FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.images.input_spec import DECODER_VERSION

PART_BYTES = 32 * 2**20
"""Size of a part in the store: 13,000 feature rows of EfficientNet-Lite0, or a few activations at a cut."""
PART_SECONDS = 30.0
"""Longest time before finished rows are written, and so the most work that a killed job loses."""


@dataclass(frozen=True)
class FeatureRequest:
    """Feature spaces that each photo needs: ``spaces[view]`` has one for each output of the feature model."""

    spaces: Mapping[str, tuple[FeatureSpace, ...]]

    def views_of(self, example: Example) -> tuple[str, ...]:
        """Views that a photo needs: only the plain one if the user assigned it to the test split."""
        return (PLAIN,) if example.split is Split.TEST else tuple(self.spaces)


class ResultWriter:
    """Collects feature rows, facts and photo records, and writes them in parts.

    A photo's rows and facts are written before its record, so that the index never lists a photo without rows.
    """

    def __init__(self, request: FeatureRequest, store: FeatureStore) -> None:
        self._request = request
        self._store = store
        self._rows: dict[str, list[tuple[str, list[NDArray[np.float16]]]]] = {view: [] for view in request.spaces}
        self._photos: list[PhotoRecord] = []
        self.facts: dict[str, PhotoFacts] = {}
        self._bytes = 0
        self._written = time.monotonic()

    def add_rows(self, view: str, sha256: str, outputs: Sequence[NDArray[np.float32]]) -> bool:
        """Add a view's feature rows, one for each output; return False, and add none, if one overflows float16."""
        with np.errstate(over="ignore"):
            rows = [output.astype(np.float16) for output in outputs]
        if not all(np.isfinite(row).all() for row in rows):
            return False
        self._rows[view].append((sha256, rows))
        self._bytes += sum(row.nbytes for row in rows)
        return True

    def add_photo(self, example: Example, result: str | RejectedPhoto) -> None:
        """Add a finished photo's record; write a part if enough has been collected."""
        record = _record(example, result)
        if record is not None:
            self._photos.append(record)
        if self._bytes >= PART_BYTES or time.monotonic() - self._written > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write everything collected."""
        for view, spaces in self._request.spaces.items():
            done = self._rows[view]
            hashes = [sha256 for sha256, _ in done]
            for output, space in enumerate(spaces if done else ()):
                self._store.add(space, hashes, np.stack([rows[output] for _, rows in done]))
            self._rows[view] = []
        self._store.add_facts(self.facts)
        self._store.add_photos(self._photos)
        self._photos, self._bytes = [], 0
        self.facts = {}
        self._written = time.monotonic()


def _record(example: Example, result: str | RejectedPhoto) -> PhotoRecord | None:
    """The photo's record for the index; None without a stamp, or for a rejection that may not recur."""
    if not example.stamp:
        return None
    if isinstance(result, str):
        return PhotoRecord(example.image, example.stamp, result, DECODER_VERSION)
    if result.code not in CONTENT_CODES:
        return None
    return PhotoRecord(example.image, example.stamp, "", DECODER_VERSION, result.code, result.reason)
