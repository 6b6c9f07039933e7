"""Who is asked at the gate, and what becomes of it: each file in each runtime, and int8 once more where it failed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export.gate.compare_variants import (
    ExportedFile,
    GateLimits,
    GatePredictions,
    RuntimeUnderTest,
    compare,
    gate_failure,
    left_out,
)
from export.gate.other_python import other_python, runtime_of
from export.gate.runtimes import PredictFunction, saved_model_predict, tensorflow_predict, tflite_predict
from export.tflite.convert import Converted, write_variant
from export.tflite.selective import rank_by_gain
from transferlite.errors import BundleError
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import runtime_version
from transferlite.inference.variants import INT8, SAVED_MODEL, base_variant
from transferlite.registry.manifest import GateResult

ELSEWHERE_PHOTOS = 50
"""On how many of the photos, at most, a runtime is asked that does not serve the file: enough to see a kernel that is
wrong, where tflite-runtime 2.14 takes up to twenty times as long as LiteRT (int8)."""
WINDOWS = (1, 2, 3)
"""How many windows of operations, each an eighth of all, a selective int8 file keeps in float32, tried in turn."""
_GAIN_PHOTOS = 16


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        answered: what every form said.
        proofs: a line for each form.
        refused: the variants that are left out, and why.
        in_float: the operations of the int8 file that compute in float32.
    """

    answered: GatePredictions
    proofs: tuple[GateResult, ...]
    refused: Mapping[str, str]
    in_float: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """
    Attributes:
        photos: gives the held-out photos with the place of their true label in ``labels``, anew at each call.
        labels: the class names.
        limits: what a variant may lose whose weights or activations are rounded.
        most: how many photos there are at most.
        python: another Python's executable, whose TFLite runtime is asked as well; None if there is none.
    """

    photos: Callable[[], Iterable[tuple[RGB, int]]]
    labels: Sequence[str]
    limits: GateLimits
    most: int
    python: str | None = None

    def ask(self, reference: PredictFunction, files: Mapping[str, Path]) -> Verdict:
        """Compare files, by variant, with the Keras model in every runtime.

        Raises:
            GateError: there is no photo, or a form that must equal the Keras model does not.
        """
        with self._forms(files) as forms:
            answered = compare(reference, forms, self.photos())
        proofs = gate_failure(answered, self.limits, self.labels)
        return Verdict(answered, tuple(proofs), left_out(proofs))

    def rescue_int8(
        self, verdict: Verdict, converted: Converted, calibration: Sequence[RGB], folder: Path, batch: int = 1
    ) -> Verdict:
        """Try int8 files that keep the operations which lose most in float32, until one passes; else it is left out.

        The reason for which int8 is left out then says that too.
        """
        assert converted.ranged is not None
        windows = rank_by_gain(converted.ranged, calibration[:_GAIN_PHOTOS])
        refused = dict(verdict.refused)
        for count in WINDOWS:
            kept = list(dict.fromkeys(name for window in windows[:count] for name in window))
            files = write_variant(converted, [INT8], folder, batch, kept)
            again = self.ask(_replayed(verdict.answered.reference), files)
            if not again.refused:
                return _replaced(verdict, again, kept)
            said = f"with {len(kept)} operations in float32, {next(iter(again.refused.values()))}"
            refused |= {name: f"{why}; {said}" for name, why in verdict.refused.items() if base_variant(name) == INT8}
        return Verdict(verdict.answered, verdict.proofs, refused)

    @contextmanager
    def _forms(self, files: Mapping[str, Path]) -> Iterator[dict[ExportedFile, RuntimeUnderTest]]:
        """Every file in every runtime, the one that serves it first."""
        forms: dict[ExportedFile, RuntimeUnderTest] = {}
        elsewhere = min(self.most, ELSEWHERE_PHOTOS)
        with ExitStack() as stack:
            for variant, path in files.items():
                if variant == SAVED_MODEL:
                    forms[ExportedFile(variant, _TENSORFLOW)] = RuntimeUnderTest(saved_model_predict(path), self.most)
                    continue
                forms[ExportedFile(variant, runtime_version())] = _asked(tflite_predict, path, self.most)
                forms[ExportedFile(variant, _TENSORFLOW)] = _asked(tensorflow_predict, path, elsewhere)
                if self.python is not None:
                    start = partial(self._other, stack)
                    forms[ExportedFile(variant, self._other_runtime)] = _asked(start, path, elsewhere)
            yield forms

    def _other(self, stack: ExitStack, path: Path, _threads: int) -> PredictFunction:
        return stack.enter_context(other_python(str(self.python), path))

    @cached_property
    def _other_runtime(self) -> str:
        return runtime_of(str(self.python))


_TENSORFLOW = f"tensorflow {tf.__version__}"


def _asked(load: Callable[[Path, int], PredictFunction], path: Path, most: int) -> RuntimeUnderTest:
    """A file loaded on one thread: there are more files than cores."""
    try:
        return RuntimeUnderTest(load(path, 1), most)
    except BundleError as error:
        return RuntimeUnderTest(str(error), most)


def _replayed(reference: NDArray[np.float32]) -> PredictFunction:
    """What the Keras model said of the photos, said again as they come in the same order."""
    place = 0

    def answers(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal place
        place += len(photos)
        return reference[place - len(photos) : place]

    return answers


def _replaced(verdict: Verdict, again: Verdict, kept: Sequence[str]) -> Verdict:
    """The verdict with int8's part from another."""
    before = verdict.answered
    forms = {form: answer for form, answer in before.forms.items() if base_variant(form.variant) != INT8}
    failures = {form: why for form, why in before.failures.items() if base_variant(form.variant) != INT8}
    return Verdict(
        GatePredictions(before.labels, before.reference, forms | dict(again.answered.forms), failures),
        (*(proof for proof in verdict.proofs if base_variant(proof.variant) != INT8), *again.proofs),
        {name: why for name, why in verdict.refused.items() if base_variant(name) != INT8},
        tuple(name.split(";")[0] for name in kept),  # of operations that were fused, the first
    )
