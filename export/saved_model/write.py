"""The SavedModel: for TensorFlow Serving, and for whoever has TensorFlow."""

import ctypes
import gc
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from export.saved_model.encoded_photos import decoded
from export.saved_model.graph import FEATURES, PROBABILITIES, Graph
from transferlite.inference.variants import SAVED_MODEL
from transferlite.registry.manifest import LABELS


def release_memory() -> None:
    """Return what is free to the system. glibc keeps it, and would add the next step's copies on top of it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(0)


SERVE, SERVE_ENCODED = "serving_default", "serve_encoded"
ENCODED = "image_bytes"
"""The input of encoded photos; TensorFlow Serving takes base64 for inputs whose name ends in ``_bytes``."""


def write_saved_model(graph: Graph, labels: Sequence[str], folder: Path) -> Path:
    """Write the SavedModel; returns its base path. Its signatures:

    - ``serving_default``: ``image`` uint8 ``[N, H, W, 3]`` -> ``probabilities`` ``[N, C]``;
    - ``serve_encoded``: ``image_bytes`` string ``[N]``, JPEGs or PNGs of any size -> ``probabilities``;
    - ``features``: ``image`` -> ``features`` ``[N, D]``, the pooled output of the base.

    The labels, a line each, are its asset ``labels.txt``.
    """
    image, encoded = graph.image(None, tf.uint8), tf.TensorSpec((None,), tf.string, name=ENCODED)
    signatures = {
        SERVE: _signature(lambda photos: graph.answers(photos)[PROBABILITIES], image, PROBABILITIES),
        SERVE_ENCODED: _signature(
            lambda data: graph.answers(decoded(data, graph.spec))[PROBABILITIES], encoded, PROBABILITIES
        ),
        FEATURES: _signature(lambda photos: graph.answers(photos)[FEATURES], image, FEATURES),
    }
    with tempfile.TemporaryDirectory(prefix="transferlite-") as assets:
        path = Path(assets, LABELS)
        path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        graph.labels = tf.saved_model.Asset(str(path))
        tf.saved_model.save(graph, str(folder / SAVED_MODEL / "1"), signatures=signatures)
    release_memory()
    return folder / SAVED_MODEL


def _signature(answer: Callable[[Any], Any], source: Any, target: str) -> Any:
    """``answer`` traced from the tensor ``source``, whose name is the input's, to one output of the name ``target``."""
    return tf.function(lambda given: {target: answer(given)}, autograph=False).get_concrete_function(source)
