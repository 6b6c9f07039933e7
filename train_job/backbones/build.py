"""Build a frozen base, with its weights and its normalisation."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from train_job.backbones.catalog import Backbone, InputScaling
from train_job.backbones.efficientnet_lite import efficientnet_lite0, load_imagenet
from train_job.backbones.fine_tune_cut import Cut
from train_job.backbones.keras_weights_file import load_weights
from transferlite.errors import InputError, UnavailableError
from transferlite.images.input_spec import InputSpec


def build_backbone(backbone: Backbone, input_shape: tuple[int, int, int], weights: str, seed: int = 0) -> Any:
    """The frozen base without its top, a ``keras.Model`` from normalised ``[N, H, W, 3]`` to ``[N, h, w, C]``.

    Args:
        backbone: which one.
        input_shape: ``(H, W, 3)``.
        weights: ``default`` or ``imagenet``, ``none`` (random, from ``seed``), or the local path of a Keras file.
        seed: of the random weights.

    Raises:
        InputError: the input is too small for the network, or the file's weights are not this network's.
        UnavailableError: ImageNet weights could not be downloaded.
        MissingExtraError: the package with EfficientNet-Lite0's weights is not installed.
    """
    keras.utils.set_random_seed(seed)
    imagenet = weights in {"default", "imagenet"}
    if backbone.application is None:
        base = efficientnet_lite0(input_shape, kernels="zeros" if imagenet else "glorot_uniform")
        if imagenet:
            load_imagenet(base)
    else:
        base = _application(backbone, input_shape, "imagenet" if imagenet else None)
    if not imagenet and weights != "none":
        load_weights(base, Path(weights).expanduser())
    base.trainable = False
    return base


def _application(backbone: Backbone, input_shape: tuple[int, int, int], weights: str | None) -> Any:
    build = getattr(keras.applications, str(backbone.application))
    try:
        with _download_explained(backbone):
            return build(include_top=False, weights=weights, input_shape=input_shape)
    except ValueError as error:
        raise InputError(
            " ".join(str(error).split()), where=backbone.name, hint="choose another --image-size"
        ) from error


@contextlib.contextmanager
def _download_explained(backbone: Backbone) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if "URL fetch failure" not in str(error) and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise UnavailableError(
            f"the ImageNet weights of {backbone.name} could not be downloaded",
            hint="connect to the network once (Keras keeps them in ~/.keras/models), or copy that file here and pass"
            " it with --weights FILE, or use --backbone efficientnet_lite0, whose weights are installed",
        ) from error


def normalise(x: Any, normalisation: InputScaling) -> Any:
    """Pixels from 0 to 255 as float RGB ``[N, H, W, 3]`` -> what the base expects."""
    if normalisation is InputScaling.LITE:
        return keras.layers.Rescaling(1 / 128, -127 / 128, name="normalise")(x)
    if normalisation is InputScaling.TF:
        return keras.layers.Rescaling(1 / 127.5, -1.0, name="normalise")(x)
    if normalisation is InputScaling.CAFFE:
        return _rgb_to_caffe(x)
    return x


def _rgb_to_caffe(x: Any) -> Any:
    """ResNet50's BGR less the means, as a fixed 1x1 convolution, which every converter and quantiser knows."""
    layer = keras.layers.Conv2D(3, 1, name="normalise", trainable=False)
    layer.build(x.shape)
    swap = np.eye(3, dtype=np.float32)[:, ::-1][None, None]
    layer.set_weights([swap, np.array([-103.939, -116.779, -123.68], np.float32)])
    return layer(x)


def weights_sha256(base: Any) -> str:
    """A hexadecimal sha256 over the base's weights, in order: what cached features depend on."""
    digest = hashlib.sha256()
    for weight in base.get_weights():
        digest.update(np.ascontiguousarray(weight).view(np.uint8).data)
    return digest.hexdigest()


def feature_model(base: Any, backbone: Backbone, spec: InputSpec, cut: Cut | None = None) -> Any:
    """Normalise, run the base in inference mode (its BatchNormalization included), pool: ``[N, H, W, 3] -> [N, D]``.

    With ``cut`` the outputs are a list: the pooled rows, and the base's activation at the cut.
    """
    pixels = keras.Input((spec.height, spec.width, 3), name="pixels")
    outputs = base.output if cut is None else [base.output, cut.tensor(base)]
    maps = keras.Model(base.input, outputs)(normalise(pixels, backbone.normalisation), training=False)
    pool = layers.GlobalAveragePooling2D(name="pool", dtype="float32")
    model = keras.Model(pixels, pool(maps) if cut is None else [pool(maps[0]), maps[1]], name="features")
    model.trainable = False
    return model
