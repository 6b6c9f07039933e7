"""Fingerprint of a training: whether a saved state belongs to the weights that a job would train."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from train_job.options import TrainOptions

TRAINING_OPTIONS = (
    *("hidden_units", "epochs", "steps_per_epoch", "batch_size", "optimizer", "learning_rate", "schedule"),
    *("label_smoothing", "class_weights", "early_stopping", "keep_best", "seed", "memory_limit"),
    *("fine_tune_from", "fine_tune_epochs", "fine_tune_learning_rate"),
)
"""Options that change the trained weights and nothing else that the fingerprint covers.

``memory_limit`` is one because rows that exceed it are shuffled in windows. Options of the evaluation, the gate, the
export and the promotion are none: after a failed gate, the same training resumes with others.
"""


def training_fingerprint(
    options: TrainOptions,
    labels: Sequence[str],
    photos: Sequence[NDArray[Any]],
    spaces: Sequence[str],
    warm_start_id: str | None,
) -> str:
    """Hash everything that the trained weights depend on: a saved state with another fingerprint is not resumed.

    Args:
        options: the job's options.
        labels: class names in the order of the outputs.
        photos: columns of the photos' sha256s, classes and splits, in the order of the rows.
        spaces: ids of the feature spaces, which cover the backbone, its input and the augmentation.
        warm_start_id: version that the head starts from, if any.
    """
    chosen = {name: getattr(options, name) for name in TRAINING_OPTIONS}
    columns = [hashlib.sha256(column.tobytes()).hexdigest() for column in photos]
    inputs = [chosen, list(labels), columns, list(spaces), warm_start_id, tf.__version__]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
