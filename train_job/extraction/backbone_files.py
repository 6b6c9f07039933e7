"""Files made of a backbone: its TFLite file and its traced SavedModel. Those of a frozen backbone are made once."""

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from typing import Any

from export.keras_to_tflite.translate_model import TRANSLATION_VERSION, translate_to_tflite
from train_job.store.conversion_store import ConversionStore
from transferlite.images.input_spec import InputSpec
from transferlite.storage.store import MemoryStore

SAVED_MODEL_VERSION = 1
"""Raise it when the graph of the SavedModel changes: stored graphs are then traced again."""


def no_conversions() -> ConversionStore:
    """A store that ends with the process."""
    return ConversionStore(MemoryStore(), lambda _: None)


class BackboneFiles:
    """The files of one backbone at one input size.

    Args:
        identity: name of the architecture, and hash of the weights.
        spec: the input's size.
        feature_model: returns the Keras model from float RGB 0 to 255 to feature rows; called only if a file is new.
        store: conversions of earlier jobs.
        write_tflite: writes the TFLite file without the Keras model, if there is a way; such a file is not stored.
    """

    def __init__(
        self,
        identity: tuple[str, str],
        spec: InputSpec,
        feature_model: Callable[[], Any],
        store: ConversionStore,
        write_tflite: Callable[[], bytes] | None = None,
    ) -> None:
        self.identity, self.spec, self.feature_model = identity, spec, feature_model
        self._store, self._write_tflite = store, write_tflite

    @cached_property
    def tflite(self) -> bytes:
        """The float32 TFLite file from float RGB 0 to 255 ``[1, H, W, 3]`` to feature rows ``[1, D]``."""
        if self._write_tflite is not None:
            return self._write_tflite()
        key = self._key("backbone.tflite") | {"translation": TRANSLATION_VERSION}
        return self._store.read_or_make(key, lambda: translate_to_tflite(self.feature_model()))

    def stored_saved_model(self, head: Any) -> bytes | None:
        """The traced SavedModel for heads of this shape that an earlier job has proven and stored, if any."""
        return self._store.read(self._saved_model_key(head))

    def trace_saved_model(self, head: Any) -> bytes:
        """Trace the SavedModel for heads of this shape."""
        from export.saved_model.write import trace_saved_model

        return trace_saved_model(self.feature_model(), head, self.spec)

    def store_saved_model(self, head: Any, traced: bytes) -> None:
        """Keep a traced SavedModel, after the gate has compared it with the Keras model."""
        self._store.write(self._saved_model_key(head), traced)

    def _key(self, file: str) -> dict[str, Any]:
        backbone, weights_sha256 = self.identity
        size = [self.spec.height, self.spec.width, self.spec.resize]
        return {"file": file, "backbone": backbone, "weights_sha256": weights_sha256, "input": size}

    def _saved_model_key(self, head: Any) -> dict[str, Any]:
        versions = {"version": SAVED_MODEL_VERSION, "keras": version("keras"), "tensorflow": _tensorflow_version()}
        return self._key("saved_model") | versions | {"head": [list(weight.shape) for weight in head.weights]}


def _tensorflow_version() -> str:
    import tensorflow as tf

    return str(tf.__version__)
