"""Choose what runs the frozen backbone on this machine: LiteRT on a CPU, TensorFlow on GPUs."""

from collections.abc import Sequence

from export.keras_to_tflite.translate_model import TRANSLATION_VERSION
from export.native_logs import quiet_native_logs

_GPU_VERSION = 1
"""Raise it when a change of the forward pass on GPUs changes a feature row."""


def gpu_names() -> list[str]:
    """Names of the GPUs that TensorFlow sees."""
    import tensorflow as tf

    with quiet_native_logs():  # without a GPU, TensorFlow logs its search for a driver as an error
        return [device.name for device in tf.config.list_logical_devices("GPU")]


def dtype_policy(gpus: Sequence[str]) -> str:
    """The Keras dtype policy in which the backbone runs."""
    return "mixed_float16" if gpus else "float32"


def engine(gpus: Sequence[str]) -> str:
    """Name and version of what computes the feature rows: rows of another engine or version are not reused."""
    return f"tensorflow {_GPU_VERSION}" if gpus else f"litert {TRANSLATION_VERSION}"
