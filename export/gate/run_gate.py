"""Run the gate: load each variant in each runtime, compare it with Keras, and retry int8 partly in float32."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.gate.compare_variants import (
    CandidateModel,
    GatePredictions,
    gate_results,
    left_out_variants,
    run_candidates,
)
from export.gate.limits import Candidate, GateLimits
from export.gate.other_python import other_python, runtime_of
from export.gate.runtimes import LoadedSavedModel, PredictFunction, tensorflow_predict, tflite_predict
from export.tflite.selective_int8 import rank_by_gain
from export.tflite.write_variants import Converted, write_variant
from transferlite.errors import BundleError
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import runtime_version
from transferlite.inference.variants import INT8, SAVED_MODEL, base_variant
from transferlite.registry.manifest import GateResult

OTHER_RUNTIME_PHOTOS = 50
"""Maximum photos for runtimes that do not serve the file: enough to detect a wrong kernel. tflite-runtime 2.14 takes up
to 20 times as long as LiteRT for int8."""
INT8_WINDOWS = (1, 2, 3)
"""Numbers of windows (an eighth of all operations each) that the retries of int8 keep in float32."""
_TENSORFLOW = f"tensorflow {tf.__version__}"


@dataclass(frozen=True)
class GateOutcome:
    """Outcome of the gate.

    Attributes:
        predictions: predictions of the Keras model and of every candidate.
        results: measurements of each variant in each runtime.
        left_out: variants that failed, with the reason.
        in_float: operations that the int8 file computes in float32.
    """

    predictions: GatePredictions
    results: tuple[GateResult, ...]
    left_out: Mapping[str, str]
    in_float: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """Compares exported files with the Keras model on held-out photos.

    Attributes:
        photos: returns an iterator over the photos and their true label's index, or None for photos without labels;
            called once per run.
        labels: class names.
        limits: limits of the variants with rounded weights or activations.
        max_photos: maximum number of photos.
        saved_model: the SavedModel among the files, if any.
        legacy_python: executable of another Python whose TFLite runtime is tested too, if any.
    """

    photos: Callable[[], Iterable[tuple[RGB, int | None]]]
    labels: Sequence[str]
    limits: GateLimits
    max_photos: int
    saved_model: LoadedSavedModel | None = None
    legacy_python: str | None = None

    def run(self, reference: PredictFunction, files: Mapping[str, Path]) -> GateOutcome:
        """Compare each file (by variant) in each runtime with the Keras model ``reference``.

        Raises:
            GateError: there are no photos, or the SavedModel or the float32 file fails.
        """
        with self._load(files) as models:
            predictions = run_candidates(reference, models, self.photos())
        results = gate_results(predictions, self.limits, self.labels)
        return GateOutcome(predictions, tuple(results), left_out_variants(results))

    def retry_int8(
        self, outcome: GateOutcome, converted: Converted, photos: Sequence[RGB], folder: Path, batch: int = 1
    ) -> GateOutcome:
        """Write int8 files that keep the most sensitive operations in float32, until all of them pass.

        The retries are written beside ``folder``, and replace its int8 files only when each of them has passed. So
        every file in ``folder`` is one that the gate has measured.

        Args:
            outcome: result of the first run.
            converted: the joined model, with ranges.
            photos: training photos on which the operations are ranked.
            folder: folder of the files.
            batch: batch size of the second file of each variant.

        Returns:
            The outcome with int8's part replaced. If no retry passes, the files and int8's results stay, and its reason
            also names the last retry's failure.
        """
        assert converted.content_with_ranges is not None
        windows = rank_by_gain(converted.content_with_ranges, photos)
        left_out = dict(outcome.left_out)
        for count in INT8_WINDOWS:
            in_float = list(dict.fromkeys(name for window in windows[:count] for name in window))
            with tempfile.TemporaryDirectory(prefix="transferlite-", dir=folder.parent) as retries:
                files = write_variant(converted, [INT8], Path(retries), batch, in_float)
                retry = self.run(_replay(outcome.predictions.reference), files)
                if not retry.left_out:
                    for path in files.values():
                        path.replace(folder / path.name)
                    return _replace_int8(outcome, retry, in_float)
            failure = f"with {len(in_float)} operations in float32, {next(iter(retry.left_out.values()))}"
            left_out |= {
                name: f"{reason}; {failure}" for name, reason in outcome.left_out.items() if base_variant(name) == INT8
            }
        return GateOutcome(outcome.predictions, outcome.results, left_out)

    @contextmanager
    def _load(self, files: Mapping[str, Path]) -> Iterator[dict[Candidate, CandidateModel]]:
        """Load each file in each runtime, the one that serves it first."""
        models: dict[Candidate, CandidateModel] = {}
        few = min(self.max_photos, OTHER_RUNTIME_PHOTOS)
        with ExitStack() as stack:
            for variant, path in files.items():
                if variant == SAVED_MODEL:
                    assert self.saved_model is not None
                    serve = self.saved_model.predict
                    models[Candidate(variant, _TENSORFLOW)] = CandidateModel(serve, self.max_photos)
                    continue
                models[Candidate(variant, runtime_version())] = _loaded(tflite_predict, path, self.max_photos)
                models[Candidate(variant, _TENSORFLOW)] = _loaded(tensorflow_predict, path, few)
                if self.legacy_python is not None:
                    load = partial(self._load_in_legacy_python, stack)
                    models[Candidate(variant, self._legacy_runtime)] = _loaded(load, path, few)
            yield models

    def _load_in_legacy_python(self, stack: ExitStack, path: Path, _threads: int) -> PredictFunction:
        return stack.enter_context(other_python(str(self.legacy_python), path))

    @cached_property
    def _legacy_runtime(self) -> str:
        return runtime_of(str(self.legacy_python))


def _loaded(load: Callable[[Path, int], PredictFunction], path: Path, max_photos: int) -> CandidateModel:
    """Load a file on one thread: there are more files than cores, and they run at the same time."""
    try:
        return CandidateModel(load(path, 1), max_photos)
    except BundleError as error:
        return CandidateModel(str(error), max_photos)


def _replay(reference: NDArray[np.float32]) -> PredictFunction:
    """A function that returns the Keras model's known predictions for the same photos in the same order."""
    done = 0

    def predict(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal done
        done += len(photos)
        return reference[done - len(photos) : done]

    return predict


def _replace_int8(outcome: GateOutcome, retry: GateOutcome, in_float: Sequence[str]) -> GateOutcome:
    """The outcome with int8's predictions and results taken from ``retry``."""
    old = outcome.predictions
    others = {name: value for name, value in old.candidates.items() if base_variant(name.variant) != INT8}
    errors = {name: error for name, error in old.errors.items() if base_variant(name.variant) != INT8}
    return GateOutcome(
        GatePredictions(old.labels, old.reference, others | dict(retry.predictions.candidates), errors),
        (*(result for result in outcome.results if base_variant(result.variant) != INT8), *retry.results),
        {name: reason for name, reason in outcome.left_out.items() if base_variant(name) != INT8},
        tuple(name.split(";")[0] for name in in_float),  # fused operations have several names; keep the first
    )
