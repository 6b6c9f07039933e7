"""The gate: every variant answers the held-out photos beside the Keras model, in the runtime that will serve it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.convert import INT8
from export.quiet import quiet_native_logs
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


@dataclass(frozen=True)
class Tally:
    """Counts of one variant against the Keras model over the same photos."""

    photos: int = 0
    right: int = 0
    reference_right: int = 0
    agreed: int = 0
    difference: float = 0.0

    @classmethod
    def of(cls, answer: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int32]) -> "Tally":
        """Count probabilities ``[N, C]`` of the variant and of Keras, N at least 1, with the true labels ``[N]``."""
        theirs = reference.argmax(axis=1)
        mine = _label(answer, theirs)
        difference = float(np.abs(answer.astype(np.float64) - reference).max())
        return cls(
            photos=len(labels),
            right=int((mine == labels).sum()),
            reference_right=int((theirs == labels).sum()),
            agreed=int((mine == theirs).sum()),
            difference=difference if np.isfinite(difference) else float("inf"),
        )

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
    with quiet_native_logs():
        model = TFLiteClassifier(path)
    return lambda photos: np.stack([model(photo) for photo in photos])


def one_thread_milliseconds(path: Path) -> float:
    """What one photo takes a TFLite file here, on one thread: the median of at least five runs in half a second."""
    model = TFLiteClassifier(path, threads=1)
    photo = np.full((model.height, model.width, 3), 127, np.uint8)
    model(photo)  # the first run also sets memory aside
    took: list[float] = []
    while len(took) < 5 or sum(took) < 0.5:
        started = time.perf_counter()
        model(photo)
        took.append(time.perf_counter() - started)
    return 1000 * median(took)


def keras_answers(model: Any) -> Answers:
    """The trained Keras model itself."""
    return lambda photos: np.asarray(model.predict_on_batch(photos))


@dataclass(frozen=True)
class Answered:
    """What every form of the model said of the same photos.

    Attributes:
        labels: the true ones ``[N]``.
        reference: the Keras model's probabilities ``[N, C]``.
        variants: the probabilities ``[N, C]`` by variant.
    """

    labels: NDArray[np.int32]
    reference: NDArray[np.float32]
    variants: Mapping[str, NDArray[np.float32]]

    def tally(self, name: str) -> Tally:
        """One variant's counts."""
        return Tally.of(self.variants[name], self.reference, self.labels)


def compare(reference: Answers, variants: Mapping[str, Answers], photos: Iterable[tuple[RGB, int]]) -> Answered:
    """Run every variant and the reference over ``(photo, true label)`` pairs, a chunk at a time.

    Raises:
        GateError: there was not one photo.
    """
    truth: list[NDArray[np.int32]] = []
    expected: list[NDArray[np.float32]] = []
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in variants}
    for images, labels in _chunks(photos):
        truth.append(labels)
        expected.append(reference(images))
        for name, answers in variants.items():
            found[name].append(answers(images))
    if not truth:
        raise GateError("there is no held-out photo to compare the models on")
    together = {name: np.concatenate(several) for name, several in found.items()}
    return Answered(np.concatenate(truth), np.concatenate(expected), together)


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


def judge(answered: Answered, paths: Mapping[str, str], folder: Path) -> tuple[dict[str, Variant], dict[str, str]]:
    """The variants that passed, and the reasons for those left out. ``paths`` are relative to the bundle ``folder``.

    Raises:
        GateError: a form that must equal the Keras model (the SavedModel, float32) does not.
    """
    passed: dict[str, Variant] = {}
    left_out: dict[str, str] = {}
    for name in answered.variants:
        tally, quantised = answered.tally(name), name == INT8
        reason = tally.failure(QUANTISED if quantised else EXACT)
        if reason and not quantised:
            raise GateError(reason, where=name, hint="nothing was published; please report it")
        if reason:
            left_out[name] = reason
            continue
        path, tflite = folder / paths[name], paths[name].endswith(".tflite")
        passed[name] = Variant(
            path=paths[name],
            size=_size(path),
            runtime=runtime_name() if tflite else "tensorflow",
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
