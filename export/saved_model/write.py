"""Write the SavedModel, for TensorFlow Serving and other users of TensorFlow."""

import ctypes
import gc
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from export.saved_model.encoded_photos import decode_photos
from export.saved_model.graph import FEATURES, PROBABILITIES, Graph
from transferlite.inference.variants import SAVED_MODEL
from transferlite.registry.manifest import LABELS


def release_memory() -> None:
    """Return free memory to the system. glibc would keep it, and the next step's copies would add to it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


SERVE, SERVE_ENCODED = "serving_default", "serve_encoded"
ENCODED = "image_bytes"
"""Name of the input of encoded photos: TensorFlow Serving accepts base64 for inputs that end in ``_bytes``."""


def write_saved_model(graph: Graph, labels: Sequence[str], folder: Path) -> Path:
    """Write the SavedModel with its labels as the asset ``labels.txt``; returns its base path. Its signatures:

    - ``serving_default``: ``image`` uint8 ``[N, H, W, 3]`` -> ``probabilities`` ``[N, C]``;
    - ``serve_encoded``: ``image_bytes`` string ``[N]``, JPEGs or PNGs of any size -> ``probabilities``;
    - ``features``: ``image`` -> ``features`` ``[N, D]``, the backbone's pooled output.
    """
    image, encoded = graph.image_spec(None, tf.uint8), tf.TensorSpec((None,), tf.string, name=ENCODED)
    signatures = {
        SERVE: _signature(lambda photos: graph.predict(photos)[PROBABILITIES], image, PROBABILITIES),
        SERVE_ENCODED: _signature(
            lambda data: graph.predict(decode_photos(data, graph.spec))[PROBABILITIES], encoded, PROBABILITIES
        ),
        FEATURES: _signature(lambda photos: graph.predict(photos)[FEATURES], image, FEATURES),
    }
    with tempfile.TemporaryDirectory(prefix="transferlite-") as assets:
        path = Path(assets, LABELS)
        path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        graph.labels = tf.saved_model.Asset(str(path))
        tf.saved_model.save(graph, str(folder / SAVED_MODEL / "1"), signatures=signatures)
    release_memory()
    return folder / SAVED_MODEL


def _signature(function: Callable[[Any], Any], source: Any, output_name: str) -> Any:
    """Trace ``function`` from the tensor ``source``, whose name becomes the input's, to one named output."""
    return tf.function(lambda value: {output_name: function(value)}, autograph=False).get_concrete_function(source)
