"""EfficientNet-Lite0 with its ImageNet weights as a TFLite file, straight from the checkpoint.

Byte for byte what :func:`train_job.backbones.litert.translate_model.translate_to_tflite` makes of the Keras model, which takes
as long to build as 100 photos take to run.
"""

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from train_job.backbones.efficientnet_lite import BLOCKS, EPSILON, Convolution, State, batch_norm_of, kernel_of
from train_job.backbones.litert.layers import add, convolve, folded, global_average, scaled
from train_job.backbones.litert.tflite_writer import TFLiteWriter
from transferlite.images.input_spec import InputSpec


def feature_file(state: State, spec: InputSpec) -> bytes:
    """The file from float RGB 0 to 255 ``[1, H, W, 3]`` to pooled rows ``[1, 1280]``."""
    flat = TFLiteWriter()
    pixels = flat.tensor([1, spec.height, spec.width, 3])
    x = scaled(flat, pixels, np.array([1 / 128], np.float32), np.array([-127 / 128], np.float32))
    for block in BLOCKS:
        before = x
        for one in block.convolutions:
            x = _convolved(flat, x, one, state)
        if block.residual:
            x = add(flat, [x, before])
    return flat.pack([pixels], [global_average(flat, x)])


def _convolved(flat: TFLiteWriter, x: int, one: Convolution, state: State) -> int:
    gamma, beta, mean, variance = batch_norm_of(one, state)
    scale, shift = folded(mean, variance, EPSILON, gamma, beta)
    kernel = kernel_of(one, state)
    if one.filters:
        kernel = np.transpose(kernel, (3, 0, 1, 2)) * scale.reshape(-1, 1, 1, 1)  # [k, k, I, O] -> [O, k, k, I]
    else:
        kernel = kernel.reshape(1, one.kernel, one.kernel, -1) * scale  # [k, k, C, 1] -> [1, k, k, C]
    _, height, width, _ = flat.shape(x)
    shape = [1, -(-height // one.stride), -(-width // one.stride), len(shift)]
    activation = ActivationFunctionType.RELU6 if one.relu6 else ActivationFunctionType.NONE
    return convolve(
        flat, x, kernel, shift, shape, activation, (one.stride, one.stride), multiplier=int(not one.filters)
    )
