"""Write the SavedModel, for TensorFlow Serving and other users of TensorFlow.

Tracing a backbone takes seconds, and a frozen one does not change. So the SavedModel is traced once with an empty head,
and each trained head is then copied into its constants.
"""

import ctypes
import gc
import io
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2

from export.saved_model.encoded_photos import decode_photos
from export.saved_model.graph import Graph, head_constant
from export.tflite.tflite_file import FEATURES, PROBABILITIES, SERVE
from transferlite.errors import GateError
from transferlite.images.input_spec import InputSpec
from transferlite.inference.variants import SAVED_MODEL
from transferlite.registry.manifest import LABELS

SERVE_ENCODED = "serve_encoded"
ENCODED = "image_bytes"
"""Name of the input of encoded photos: TensorFlow Serving accepts base64 for inputs that end in ``_bytes``."""

_GRAPH_FILE, _FINGERPRINT_FILE = "saved_model.pb", "fingerprint.pb"


def release_memory() -> None:
    """Return free memory to the system. glibc would keep it, and the next step's copies would add to it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def trace_saved_model(feature_model: Any, head: Any, spec: InputSpec) -> bytes:
    """Trace the SavedModel of a feature model and an empty head; returns its folder as a tar archive. Signatures:

    - ``serving_default``: ``image`` uint8 ``[N, H, W, 3]`` -> ``probabilities`` ``[N, C]``;
    - ``serve_encoded``: ``image_bytes`` string ``[N]``, JPEGs or PNGs of any size -> ``probabilities``;
    - ``features``: ``image`` -> ``features`` ``[N, D]``, the backbone's pooled output.

    Args:
        feature_model: Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to features ``[N, D]``.
        head: Keras model from features to probabilities; only its layers matter, not its weights.
        spec: input size.
    """
    graph = Graph(feature_model, head, spec)
    image, encoded = graph.image_spec(None, tf.uint8), tf.TensorSpec((None,), tf.string, name=ENCODED)
    signatures = {
        SERVE: _signature(lambda photos: graph.predict(photos)[PROBABILITIES], image, PROBABILITIES),
        SERVE_ENCODED: _signature(
            lambda data: graph.predict(decode_photos(data, spec))[PROBABILITIES], encoded, PROBABILITIES
        ),
        FEATURES: _signature(lambda photos: graph.predict(photos)[FEATURES], image, FEATURES),
    }
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        labels = Path(folder, LABELS)
        labels.touch()
        graph.labels = tf.saved_model.Asset(str(labels))
        saved = Path(folder, "saved")
        tf.saved_model.save(graph, str(saved), signatures=signatures)
        (saved / _FINGERPRINT_FILE).unlink(missing_ok=True)  # of this empty head
        archive = _tar(saved)
    release_memory()
    return archive


def write_saved_model(
    traced: bytes, head_weights: Sequence[NDArray[np.float32]], labels: Sequence[str], folder: Path
) -> Path:
    """Write a traced SavedModel with a head and its labels as the asset ``labels.txt``; returns its base path.

    Args:
        traced: archive of :func:`trace_saved_model`.
        head_weights: ``head.get_weights()`` of a head with the same layers.
        labels: class names.
        folder: folder of the bundle.

    Raises:
        GateError: the archive was traced for a head of another shape.
    """
    version = folder / SAVED_MODEL / "1"
    with tarfile.open(fileobj=io.BytesIO(traced)) as archive:
        archive.extractall(version, filter="data")
    saved = saved_model_pb2.SavedModel.FromString((version / _GRAPH_FILE).read_bytes())
    _set_head(saved, {head_constant(index): weight for index, weight in enumerate(head_weights)})
    (version / _GRAPH_FILE).write_bytes(saved.SerializeToString(deterministic=True))
    (version / "assets" / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return folder / SAVED_MODEL


def _set_head(saved: Any, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy the head's weights into the constants of the traced graph, by name."""
    missing = set(weights)
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const" and node.name in weights:
                missing.discard(node.name)
                old, new = node.attr["value"].tensor, tf.make_tensor_proto(weights[node.name])
                if old.tensor_shape != new.tensor_shape:
                    raise GateError(f"{node.name} of the traced graph has another shape", where=SAVED_MODEL)
                old.CopyFrom(new)
    if missing:
        raise GateError("the traced graph lacks weights of the head", where=SAVED_MODEL)


def _tar(folder: Path) -> bytes:
    """Pack a folder; equal files give equal archives."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder), recursive=False, filter=_without_owner_and_time)
    return content.getvalue()


def _without_owner_and_time(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _signature(function: Callable[[Any], Any], source: Any, output_name: str) -> Any:
    """Trace ``function`` from the tensor ``source``, whose name becomes the input's, to one named output."""
    return tf.function(lambda value: {output_name: function(value)}, autograph=False).get_concrete_function(source)
