"""Choose what runs the frozen backbone on this machine: LiteRT on a CPU, TensorFlow on GPUs."""

from collections.abc import Callable, Sequence
from typing import Any

from export.native_logs import quiet_native_logs
from train_job.backbones.litert.layers import UnsupportedLayerError
from train_job.backbones.litert.translate_model import translate_to_tflite
from train_job.extraction.forward_pass import (
    ForwardPass,
    available_cores,
    gpu_forward_pass,
    litert_forward_pass,
    tensorflow_forward_pass,
)


def gpu_names() -> list[str]:
    """Names of the GPUs that TensorFlow sees."""
    import tensorflow as tf

    with quiet_native_logs():  # without a GPU, TensorFlow logs its search for a driver as an error
        return [device.name for device in tf.config.list_logical_devices("GPU")]


def dtype_policy(gpus: Sequence[str]) -> str:
    """The Keras dtype policy in which :func:`fastest_forward_pass` runs the backbone."""
    return "mixed_float16" if gpus else "float32"


def fastest_forward_pass(model: Callable[[], Any], gpus: Sequence[str]) -> ForwardPass:
    """Choose and build the fastest forward pass for this machine.

    Args:
        model: builds the feature model, from float RGB 0 to 255 ``[N, H, W, 3]`` to one output or a list of them.
        gpus: result of :func:`gpu_names`.
    """
    if gpus:
        return gpu_forward_pass(model, gpus)
    built = model()
    try:
        return litert_forward_pass(translate_to_tflite(built), available_cores())
    except UnsupportedLayerError:
        return tensorflow_forward_pass(built)
