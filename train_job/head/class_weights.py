"""Class weights: how much a row of each class counts in the loss."""

import numpy as np
from numpy.typing import NDArray


def class_weight_vector(kind: str, labels: NDArray[np.int32], classes: int) -> NDArray[np.float32]:
    """Return the weight of a row of each class, ``[classes]``, given the labels ``[N]`` of the rows.

    ``kind`` is ``none`` (all weights are 1) or ``balanced``: inversely proportional to the class's number of rows, as
    ``sklearn.utils.class_weight.compute_class_weight`` has it.
    """
    if kind == "none":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)
