"""The history as TensorBoard reads it: ``tensorboard --logdir training/tensorboard`` in a pulled version."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from train_job.head.recipe import Epoch

EVENTS = "training/tensorboard/events.out.tfevents"
"""TensorFlow's own name for the file would tell the machine's name."""


def write_events(path: Path, history: Sequence[Epoch]) -> None:
    """Write a scalar for each measure of each epoch, the step being the epoch."""
    path.parent.mkdir(parents=True)
    writer = tf.summary.create_file_writer(str(path.parent))
    with writer.as_default():
        for epoch in history:
            for name, value in asdict(epoch).items():
                if name != "epoch" and value is not None:
                    tf.summary.write(name, tf.constant(value, tf.float32), epoch.epoch, _scalar())
    writer.close()
    (written,) = path.parent.iterdir()
    written.rename(path)


def _scalar() -> Any:
    """What ``tf.summary.scalar`` adds, which needs TensorBoard installed."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    return metadata
