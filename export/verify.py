"""The gate: every variant answers the held-out photos beside the Keras model, in the runtime that will serve it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.convert import INT8
from runtime.bundle import Variant
from runtime.errors import GateError
from runtime.imaging import RGB
from runtime.interpreter import TFLiteClassifier, runtime_name

Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Photos uint8 ``[N, H, W, 3]`` -> probabilities ``[N, C]``."""

_CHUNK = 32
TIE = 1e-5
"""Labels whose probabilities are this close are as good as each other: rounding decides which one comes first."""


@dataclass(frozen=True)
class Limits:
    """What a variant may lose. Counts are rounded up to one photo, for one is the smallest loss a small set can show.

    Attributes:
        difference: largest difference of a probability from the Keras model's.
        accuracy: share of photos by which the accuracy may be lower.
        disagreement: share of photos on which another label may come out.
    """

    difference: float
    accuracy: float
    disagreement: float


EXACT = Limits(difference=1e-4, accuracy=0.0, disagreement=0.0)
QUANTISED = Limits(difference=1.0, accuracy=0.01, disagreement=0.05)


@dataclass
class Tally:
    """Running counts of one variant against the Keras model."""

    photos: int = 0
    right: int = 0
    reference_right: int = 0
    agreed: int = 0
    difference: float = 0.0

    def add(self, answer: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
        """Count a chunk: probabilities ``[N, C]`` of the variant and of Keras, true labels ``[N]``."""
        theirs = reference.argmax(axis=1)
        mine = _label(answer, theirs)
        self.photos += len(labels)
        self.right += int((mine == labels).sum())
        self.reference_right += int((theirs == labels).sum())
        self.agreed += int((mine == theirs).sum())
        difference = np.abs(answer.astype(np.float64) - reference).max()
        self.difference = max(self.difference, float(difference)) if np.isfinite(difference) else float("inf")

    def failure(self, limits: Limits) -> str | None:
        """In words, the first limit that does not hold; None when all do."""
        if self.difference > limits.difference:
            return f"a probability differs by {self.difference:.1e} from Keras (limit {limits.difference:.0e})"
        if self.reference_right - self.right > self._count(limits.accuracy):
            return f"{self.right} of {self.photos} photos right where Keras has {self.reference_right}"
        if self.photos - self.agreed > self._count(limits.disagreement):
            return f"only {self.agreed} of {self.photos} photos have the label that Keras gives"
        return None

    def _count(self, share: float) -> float:
        return max(share * self.photos, 1) if share else 0


def _label(answer: NDArray[np.float32], expected: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each row ``[N, C]``: the expected one where it is as probable as the best within :data:`TIE`."""
    best = answer.max(axis=1)
    level = answer[np.arange(len(answer)), expected] >= best - TIE
    return np.where(level, expected, answer.argmax(axis=1))


def saved_model_answers(base_path: Path) -> Answers:
    """The SavedModel as TensorFlow Serving would load it: its version 1, by its ``serving_default`` signature."""
    loaded = tf.saved_model.load(str(base_path / "1"))
    serve = loaded.signatures["serving_default"]

    def answers(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        _keep_alive = loaded
        (output,) = serve(image=tf.constant(photos)).values()
        return np.asarray(output)

    return answers


def tflite_answers(path: Path) -> Answers:
    """A TFLite file as the predictor runs it, photo by photo."""
    model = TFLiteClassifier(path)
    return lambda photos: np.stack([model(photo) for photo in photos])


def keras_answers(model: Any) -> Answers:
    """The trained Keras model itself."""
    return lambda photos: np.asarray(model.predict_on_batch(photos))


def compare(reference: Answers, variants: Mapping[str, Answers], photos: Iterable[tuple[RGB, int]]) -> dict[str, Tally]:
    """Run every variant and the reference over ``(photo, true label)`` pairs, a chunk at a time; counts by variant.

    Raises:
        GateError: there was not one photo.
    """
    tallies = {name: Tally() for name in variants}
    for images, labels in _chunks(photos):
        expected = reference(images)
        for name, answers in variants.items():
            tallies[name].add(answers(images), expected, labels)
    if not all(tally.photos for tally in tallies.values()):
        raise GateError("there is no held-out photo to compare the models on")
    return tallies


def _chunks(photos: Iterable[tuple[RGB, int]]) -> Iterable[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    images: list[RGB] = []
    labels: list[int] = []
    for image, label in photos:
        images.append(image)
        labels.append(label)
        if len(images) == _CHUNK:
            yield np.stack(images), np.array(labels, np.int32)
            images, labels = [], []
    if images:
        yield np.stack(images), np.array(labels, np.int32)


def judge(
    tallies: Mapping[str, Tally], paths: Mapping[str, str], folder: Path
) -> tuple[dict[str, Variant], dict[str, str]]:
    """The variants that passed, and the reasons for those left out. ``paths`` are relative to the bundle ``folder``.

    Raises:
        GateError: a form that must equal the Keras model (the SavedModel, float32) does not.
    """
    passed: dict[str, Variant] = {}
    left_out: dict[str, str] = {}
    for name, tally in tallies.items():
        quantised = name == INT8
        reason = tally.failure(QUANTISED if quantised else EXACT)
        if reason and not quantised:
            raise GateError(reason, where=name, hint="nothing was published; please report it")
        if reason:
            left_out[name] = reason
            continue
        passed[name] = Variant(
            path=paths[name],
            size=_size(folder / paths[name]),
            runtime=runtime_name() if paths[name].endswith(".tflite") else "tensorflow",
            photos=tally.photos,
            accuracy=tally.right / tally.photos,
            agreement=tally.agreed / tally.photos,
            max_difference=tally.difference,
        )
    return passed, left_out


def _size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )
