"""Scale pixels as a backbone expects them: to -1 to 1, or to BGR minus the ImageNet means."""

from typing import Any

import numpy as np
from keras import layers

from train_job.backbones.catalog import InputScaling


def normalise(pixels: Any, normalisation: InputScaling) -> Any:
    """Scale float RGB ``[N, H, W, 3]`` from 0 to 255 as the backbone expects it."""
    if normalisation is InputScaling.LITE:
        return layers.Rescaling(1 / 128, -127 / 128, name="normalise")(pixels)
    if normalisation is InputScaling.TF:
        return layers.Rescaling(1 / 127.5, -1.0, name="normalise")(pixels)
    if normalisation is InputScaling.CAFFE:
        return _rgb_to_caffe(pixels)
    return pixels


def _rgb_to_caffe(pixels: Any) -> Any:
    """Swap to BGR and subtract ImageNet's means in one fixed 1x1 convolution, which every converter supports."""
    layer = layers.Conv2D(3, 1, name="normalise", trainable=False)
    layer.build(pixels.shape)
    swap = np.eye(3, dtype=np.float32)[:, ::-1][None, None]
    layer.set_weights([swap, np.array([-103.939, -116.779, -123.68], np.float32)])
    return layer(pixels)
