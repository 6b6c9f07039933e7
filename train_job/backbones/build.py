"""Build a backbone with its weights, and the feature model around it: normalise, backbone, pool."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from train_job.backbones.catalog import Backbone
from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE, efficientnet_lite, load_imagenet
from train_job.backbones.fine_tune_cut import Cut
from train_job.backbones.input_scaling import normalise
from train_job.backbones.keras_weights_file import load_weights
from transferlite.errors import InputError, UnavailableError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.locations import open_store, split_uri


def build_backbone(
    backbone: Backbone, input_shape: tuple[int, int, int], weights: str, seed: int = 0, include_top: bool = False
) -> Any:
    """Build the frozen backbone.

    Returns a ``keras.Model`` from normalised ``[N, H, W, 3]`` to ``[N, h, w, C]``, or with ``include_top`` to
    ImageNet's probabilities ``[N, 1000]``.

    Args:
        backbone: entry of the table.
        input_shape: ``(H, W, 3)``.
        weights: ``default`` or ``imagenet``, ``none`` (random), or the location of a Keras weights file.
        seed: seed of the random weights.
        include_top: whether to keep the network's own classifier.

    Raises:
        InputError: the input is too small for the network, or the file holds another network's weights.
        UnavailableError: ImageNet weights could not be downloaded.
        MissingExtraError: the package with the weights of an EfficientNet-Lite is not installed.
    """
    keras.utils.set_random_seed(seed)
    imagenet = weights in {"default", "imagenet"}
    if backbone.application is None:
        network = EFFICIENTNET_LITE[backbone.name]
        model = efficientnet_lite(network, input_shape, include_top, "zeros" if imagenet else "glorot_uniform")
        if imagenet:
            load_imagenet(model, network)
    else:
        model = _build_application(backbone, input_shape, "imagenet" if imagenet else None, include_top)
    if not imagenet and weights != "none":
        _load_weights_from(model, weights, include_top)
    model.trainable = False
    return model


def _load_weights_from(model: Any, location: str, include_top: bool) -> None:
    """Load a weights file from a local path or an ``s3://`` URI."""
    if "://" not in location:
        load_weights(model, Path(location).expanduser(), include_top)
        return
    root, key = split_uri(location)
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        path = Path(folder, Path(key).name)
        open_store(root).download(key, path)
        load_weights(model, path, include_top)


def _build_application(
    backbone: Backbone, input_shape: tuple[int, int, int], weights: str | None, include_top: bool
) -> Any:
    application = getattr(keras.applications, str(backbone.application))
    try:
        with _explain_failed_download(backbone):
            return application(include_top=include_top, weights=weights, input_shape=input_shape, **backbone.arguments)
    except ValueError as error:
        raise InputError(
            " ".join(str(error).split()), where=backbone.name, hint="choose another --image-size"
        ) from error


@contextlib.contextmanager
def _explain_failed_download(backbone: Backbone) -> Iterator[None]:
    """Turn Keras's download errors into UnavailableError; others pass."""
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


def weights_sha256(model: Any) -> str:
    """Hexadecimal sha256 over a model's weights in order; cached features depend on it."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).view(np.uint8).data)
    return digest.hexdigest()


def feature_model(model: Any, backbone: Backbone, spec: InputSpec, cut: Cut | None = None) -> Any:
    """Wrap a built backbone as a model from float RGB 0 to 255 ``[N, H, W, 3]`` to feature rows ``[N, D]``.

    It normalises, runs the backbone in inference mode (BatchNormalization included) and pools.
    With ``cut`` there are two outputs: the feature rows, and the backbone's activation at the cut.
    """
    pixels = keras.Input((spec.height, spec.width, 3), name="pixels")
    outputs = model.output if cut is None else [model.output, cut.tensor(model)]
    maps = keras.Model(model.input, outputs)(normalise(pixels, backbone.normalisation), training=False)
    pool = layers.GlobalAveragePooling2D(name="pool", dtype="float32")
    features = keras.Model(pixels, pool(maps) if cut is None else [pool(maps[0]), maps[1]], name="features")
    features.trainable = False
    return features
