"""Load a model in each runtime of this Python, as a function from photos to probabilities."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.native_logs import quiet_native_logs
from export.saved_model.write import ENCODED, SERVE_ENCODED
from export.tflite.tflite_file import FEATURES, SERVE
from transferlite.inference.interpreter import TFLiteClassifier

PredictFunction = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Photos uint8 ``[N, H, W, 3]`` -> probabilities ``[N, C]``."""


def keras_head(head: Any) -> PredictFunction:
    """A Keras head, as a function from feature rows ``[N, D]`` to probabilities ``[N, C]``."""
    return lambda rows: np.asarray(head(rows, training=False))


class LoadedSavedModel:
    """A SavedModel as TensorFlow Serving loads it: version 1, with one method per signature."""

    def __init__(self, base_path: Path) -> None:
        self._loaded = tf.saved_model.load(str(base_path / "1"))  # its signatures do not keep it alive

    def predict(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run ``serving_default``: photos ``[N, H, W, 3]`` -> probabilities ``[N, C]``."""
        return self._run(SERVE, image=tf.constant(photos))

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run ``features``: photos ``[N, H, W, 3]`` -> feature rows ``[N, D]``."""
        return self._run(FEATURES, image=tf.constant(photos))

    def predict_encoded(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """Run ``serve_encoded``: JPEGs or PNGs -> probabilities ``[N, C]``."""
        return self._run(SERVE_ENCODED, **{ENCODED: tf.constant(list(files))})

    def _run(self, signature: str, **inputs: Any) -> NDArray[np.float32]:
        (output,) = self._loaded.signatures[signature](**inputs).values()
        return np.asarray(output)


def tflite_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file as the predictor runs it. Raises BundleError if it cannot be loaded."""
    with quiet_native_logs():
        return TFLiteClassifier(path, threads).predict_batch


def tensorflow_predict(path: Path, threads: int | None = None) -> PredictFunction:
    """A TFLite file in TensorFlow's own interpreter. Raises BundleError if it cannot be loaded."""
    with quiet_native_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning that TensorFlow will remove the interpreter
        return TFLiteClassifier(path, threads, interpreter=tf.lite.Interpreter).predict_batch
