"""The runtimes of this Python that the gate asks, each as a function from photos to answers."""

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
    """The trained Keras model itself."""
    return lambda photos: np.asarray(model.predict_on_batch(photos))


def saved_model_predict(base_path: Path) -> PredictFunction:
    """The SavedModel as TensorFlow Serving would load it: its version 1, by its ``serving_default`` signature."""
    loaded = tf.saved_model.load(str(base_path / "1"))
    serve = loaded.signatures["serving_default"]

    def answers(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        _keep_alive = loaded
        (output,) = serve(image=tf.constant(photos)).values()
        return np.asarray(output)

    return answers


def tflite_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file as the predictor runs it. Raises BundleError."""
    with quiet_native_logs():
        return TFLiteClassifier(path, threads).predict_batch


def tensorflow_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file in the interpreter that comes with TensorFlow. Raises BundleError."""
    with quiet_native_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which says that it will be removed some day
        return TFLiteClassifier(path, threads, interpreter=tf.lite.Interpreter).predict_batch
