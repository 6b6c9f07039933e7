"""Load a model in each runtime of this Python, as a function from photos to probabilities."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.native_logs import quiet_native_logs
from transferlite.inference.interpreter import TFLiteClassifier

PredictFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Photos uint8 ``[N, H, W, 3]`` -> probabilities ``[N, C]``."""


def keras_predict(model: Any) -> PredictFunction:
    """The trained Keras model."""
    return lambda photos: np.asarray(model.predict_on_batch(photos))


def saved_model_predict(base_path: Path) -> PredictFunction:
    """The SavedModel as TensorFlow Serving loads it: version 1, signature ``serving_default``."""
    loaded = tf.saved_model.load(str(base_path / "1"))
    serve = loaded.signatures["serving_default"]

    def predict(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        _keep_alive = loaded
        (output,) = serve(image=tf.constant(photos)).values()
        return np.asarray(output)

    return predict


def tflite_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file as the predictor runs it. Raises BundleError if it cannot be loaded."""
    with quiet_native_logs():
        return TFLiteClassifier(path, threads).predict_batch


def tensorflow_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file in TensorFlow's own interpreter. Raises BundleError if it cannot be loaded."""
    with quiet_native_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning that TensorFlow will remove the interpreter
        return TFLiteClassifier(path, threads, interpreter=tf.lite.Interpreter).predict_batch
