"""Predictor without a trained model: decoder, manifest and predictions are real, the network compares mean colours."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from transferlite.images.input_spec import InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.predictor import Predictor
from transferlite.registry.manifest import Manifest, Variant

LABELS = ("blue", "red", "green")
_CHANNELS = (2, 0, 1)


class _Network:
    """Each channel's share of the total brightness, ``[3]`` in the order of LABELS."""

    resolution = 0.0

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        light = image.reshape(-1, 3).astype(np.float64).mean(axis=0)[list(_CHANNELS)]
        return np.asarray(light / max(light.sum(), 1.0), np.float32)


def colour_predictor(threshold: float = 0.0, **changes: Any) -> Predictor:
    """Return a predictor whose label is the photo's strongest colour."""
    variant = Variant("float32.tflite", 1000, "ai-edge-litert 2", 40, 0.95, 1.0, 1e-6)
    fields: dict[str, Any] = {
        "model_id": "20260131-235959-3f9a1c07",
        "created_at": "2026-01-31T23:59:59+00:00",
        "labels": LABELS,
        "input": InputSpec(64, 64),
        "variants": {"float32": variant},
        "threshold": threshold,
        **{name: {} for name in ("backbone", "training", "dataset", "metrics", "left_out", "software")},
    }
    return Predictor(Manifest(**fields | changes), cast(TFLiteClassifier, _Network()), "float32")
