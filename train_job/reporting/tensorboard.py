"""Write each epoch's metrics for TensorBoard: ``tensorboard --logdir training/tensorboard`` in a pulled version."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf

from train_job.head.recipe import Epoch

EVENTS = "training/tensorboard/events.out.tfevents"
"""Fixed file name: TensorFlow's own contains the name of the machine."""


def write_events(path: Path, history: Sequence[Epoch]) -> None:
    """Write each metric of each epoch as a scalar, with the epoch as its step."""
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
    """The metadata of a scalar, as ``tf.summary.scalar`` adds it; that function needs TensorBoard installed."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    return metadata
