"""Write an EfficientNet-Lite with its ImageNet weights as a TFLite file, straight from the PyTorch checkpoint.

The result is byte for byte what :func:`~export.keras_to_tflite.translate_model.translate_to_tflite` makes of the
Keras model. Skipping the Keras model saves the time in which LiteRT runs about 100 photos.
"""

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from export.keras_to_tflite.layers import batch_norm_scale_shift
from export.keras_to_tflite.operations import add, convolve, global_average, multiply_add
from export.tflite.tflite_writer import TFLiteWriter
from train_job.backbones.efficientnet_lite import (
    EPSILON,
    Convolution,
    EfficientNetLite,
    StateDict,
    batch_norm_of,
    kernel_of,
    read_imagenet,
)
from transferlite.images.input_spec import InputSpec


def efficientnet_lite_tflite(network: EfficientNetLite, spec: InputSpec) -> bytes:
    """A TFLite file from float RGB 0 to 255 ``[1, H, W, 3]`` to feature rows ``[1, 1280]``.

    Raises as :func:`~train_job.backbones.efficientnet_lite.read_imagenet`.
    """
    state = read_imagenet(network)
    writer = TFLiteWriter()
    pixels = writer.tensor([1, spec.height, spec.width, 3])
    writer.layer = "normalise"
    x = multiply_add(writer, pixels, np.array([1 / 128], np.float32), np.array([-127 / 128], np.float32))
    for block in network.blocks:
        block_input = x
        for convolution in block.convolutions:
            x = _add_convolution(writer, x, convolution, state)
        if block.residual:
            writer.layer = f"{block.name}_add"
            x = add(writer, [x, block_input])
    writer.layer = "pool"
    return writer.pack([pixels], [global_average(writer, x)])


def _add_convolution(writer: TFLiteWriter, x: int, convolution: Convolution, state: StateDict) -> int:
    """Append a convolution on tensor ``x`` with its BatchNormalization folded in; returns the output tensor."""
    gamma, beta, mean, variance = batch_norm_of(convolution, state)
    scale, shift = batch_norm_scale_shift(mean, variance, EPSILON, gamma, beta)
    kernel, stride = kernel_of(convolution, state), convolution.stride
    if convolution.filters:
        kernel = np.transpose(kernel, (3, 0, 1, 2)) * scale.reshape(-1, 1, 1, 1)  # [k, k, I, O] -> [O, k, k, I]
    else:
        kernel = kernel.reshape(1, convolution.kernel, convolution.kernel, -1) * scale  # [k, k, C, 1] -> [1, k, k, C]
    _, height, width, _ = writer.shape(x)
    shape = [1, -(-height // stride), -(-width // stride), len(shift)]
    activation = ActivationFunctionType.RELU6 if convolution.relu6 else ActivationFunctionType.NONE
    writer.layer = f"{convolution.name}_conv"
    depth_multiplier = int(not convolution.filters)
    return convolve(writer, x, kernel, shift, shape, activation, (stride, stride), depth_multiplier=depth_multiplier)
