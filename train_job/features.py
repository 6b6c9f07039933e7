"""The frozen base runs once a photo: photos in, rows out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.dataset import Example, Reject
from train_job.loading import Photo

BATCH = 32


@dataclass(frozen=True)
class Features:
    """``rows`` float32 ``[N, D]``, ``rows[i]`` being the photo ``examples[i]``; and what could not be used."""

    examples: tuple[Example, ...]
    rows: NDArray[np.float32]
    rejects: tuple[Reject, ...]


def extract(features: Any, photos: Iterable[Photo | Reject], advance: Callable[[], None]) -> Features:
    """Run the feature model over photos as they arrive, a full batch at a time so that it is traced once.

    Args:
        features: a Keras model from float RGB ``[N, H, W, 3]`` to rows ``[N, D]``.
        photos: decoded photos, or why one could not be had.
        advance: called once a photo, for progress.
    """
    forward = tf.function(lambda batch: features(tf.cast(batch, tf.float32), training=False))
    examples: list[Example] = []
    rejects: list[Reject] = []
    rows: list[NDArray[np.float32]] = []
    batch = np.zeros((BATCH, *features.input_shape[1:]), np.uint8)
    filled = 0
    for photo in photos:
        advance()
        if isinstance(photo, Reject):
            rejects.append(photo)
            continue
        examples.append(photo.example)
        batch[filled] = photo.image
        filled += 1
        if filled == BATCH:
            rows.append(forward(batch).numpy())
            filled = 0
    if filled:
        rows.append(forward(batch).numpy()[:filled])
    width = features.output_shape[-1]
    table = np.concatenate(rows) if rows else np.zeros((0, width), np.float32)
    return Features(tuple(examples), table, tuple(rejects))
