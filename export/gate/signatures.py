"""Prove the SavedModel's other signatures: ``features``, and ``serve_encoded`` on the photos' own bytes."""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from export.gate.limits import EXACT_LIMITS, AgreementCounts, Candidate, GateLimits
from export.gate.runtimes import LoadedSavedModel, PredictFunction
from export.saved_model.encoded_photos import is_jpeg_or_png
from export.saved_model.write import SERVE_ENCODED
from export.tflite.tflite_file import FEATURES
from transferlite.images.decoder import RGB
from transferlite.inference.variants import SAVED_MODEL
from transferlite.registry.manifest import GateResult

SIGNATURE_PHOTOS = 8
"""Photos on which a signature is run: each shows a wrong graph, since all share one backbone and head."""

ENCODED_LIMITS = GateLimits(max_difference=0.2, max_accuracy_drop=0.01, max_recall_drop=0.1, max_disagreement=0.05)
"""Limits of ``serve_encoded``, whose graph decodes a photo with up to 20 of 255 difference in a single sample."""

EncodedPhoto = tuple[bytes, RGB, int | None]
"""A photo's file, its decoded image ``[H, W, 3]``, and the index of its class, if it has one."""


def as_png(photo: RGB) -> bytes:
    """A decoded photo ``[H, W, 3]`` as a PNG, for ``serve_encoded`` where the photo's own file is not at hand."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    return file.getvalue()


def signature_results(
    saved_model: LoadedSavedModel,
    reference: PredictFunction,
    head: PredictFunction,
    photos: Sequence[EncodedPhoto],
    labels: Sequence[str],
) -> list[GateResult]:
    """Compare both signatures with the Keras model's predictions for the decoded photos.

    Args:
        saved_model: the SavedModel.
        reference: the Keras model, from photos to probabilities.
        head: the Keras head, from feature rows to probabilities.
        photos: at most :data:`SIGNATURE_PHOTOS` are used. ``serve_encoded`` is run on the JPEGs and PNGs among them,
            the formats that it decodes.
        labels: class names.
    """
    chosen = photos[:SIGNATURE_PHOTOS]
    results = []
    if chosen:
        images = np.stack([image for _, image, _ in chosen])
        probabilities = head(saved_model.features(images))
        results.append(_result(FEATURES, probabilities, reference(images), chosen, EXACT_LIMITS, labels))
    if encoded := [photo for photo in chosen if is_jpeg_or_png(photo[0])]:
        images = np.stack([image for _, image, _ in encoded])
        probabilities = saved_model.predict_encoded([data for data, _, _ in encoded])
        results.append(_result(SERVE_ENCODED, probabilities, reference(images), encoded, ENCODED_LIMITS, labels))
    return results


def _result(
    signature: str,
    probabilities: NDArray[np.float32],
    expected: NDArray[np.float32],
    photos: Sequence[EncodedPhoto],
    limits: GateLimits,
    labels: Sequence[str],
) -> GateResult:
    classes = [label for _, _, label in photos if label is not None]
    counts = AgreementCounts.count(probabilities, expected, np.array(classes, np.int32) if classes else None)
    candidate = Candidate(SAVED_MODEL, f"tensorflow {tf.__version__}, {signature}")
    return counts.to_gate_result(candidate, counts.failed_limit(limits, labels))
