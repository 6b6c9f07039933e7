"""From a trained classifier to proven files: convert, and run every variant on held-out photos."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np

from export.gate.compare_variants import GateLimits, GatePredictions
from export.gate.golden_pictures import write_golden
from export.gate.run_gate import Gate, Verdict
from export.gate.runtimes import PredictFunction, keras_predict, tflite_predict
from export.saved_model.graph import Graph
from export.saved_model.write import write_saved_model
from export.tflite.convert import convert, write_variant
from export.tflite.metadata import ModelInfo
from train_job.data.dataset import Example, Split
from train_job.options import TrainOptions
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.run_record import versions
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.progress import Reporter
from train_job.scores import Scores
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, balanced_sample, decoded_photos
from transferlite.errors import GateError
from transferlite.images.decoder import RGB
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import FLOAT32, INT8, SAVED_MODEL, base_variant
from transferlite.registry.manifest import GateResult, Variant
from transferlite.registry.versions import new_model_id, utc_now

CALIBRATION_PHOTOS = 100
ROWS_MAY_DIFFER = 0.01


@dataclass(frozen=True)
class ExportedVariants:
    """The files of a bundle that is not sealed yet, and what the gate found.

    Attributes:
        about: what each TFLite file says of itself, the version's id above all.
        folder: where they lie.
        variants: those that passed.
        left_out: those that did not, and why.
        gate: what was measured of each variant in each runtime.
        examples: the test photos of the gate.
        answered: what every form said of them.
        golden: the file of test pictures, below the folder.
    """

    about: ModelInfo
    folder: Path
    variants: Mapping[str, Variant]
    left_out: Mapping[str, str]
    gate: tuple[GateResult, ...]
    examples: Sequence[Example]
    answered: GatePredictions
    golden: str

    def best(self, example: Example, image: RGB) -> int:
        """The class that the float32 file gives a photo; one of the gate's is not run again."""
        place = self._places.get(example.sha256)
        said = self._float32(image[None])[0] if place is None else self.answered.variants[FLOAT32][place]
        return int(said.argmax())

    @cached_property
    def _float32(self) -> PredictFunction:
        return tflite_predict(self.folder / self.variants[FLOAT32].path)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {example.sha256: place for place, example in enumerate(self.examples)}


def export_variants(job: JobContext, learned: TrainedClassifier, folder: Path) -> ExportedVariants:
    """Write the model files to ``folder`` and run each of them on held-out photos.

    Raises:
        GateError: the SavedModel or the float32 file does not answer as the Keras model does.
    """
    classifier, options = learned.classifier, job.options
    job.report.line(f"exporting: SavedModel, {', '.join(options.variants)}")
    store = FeatureStore.open(options.feature_store, job.report.warning)
    sample = _sample(learned, Split.TRAIN, CALIBRATION_PHOTOS)
    calibration = list(decoded_photos(sample, classifier.input, store)) if INT8 in options.variants else []
    graph = Graph(classifier.features, classifier.head, classifier.input)
    saved_model = write_saved_model(graph, classifier.labels, folder)
    job.stop.check()
    about = _about(learned)
    converted = convert(graph, calibration, about)
    files = {SAVED_MODEL: saved_model} | write_variant(converted, options.variants, folder, options.batch)
    job.stop.check()
    examples = _sample(learned, Split.TEST, MAX_GATE_PHOTOS)
    gate = Gate(
        photos=lambda: _pictures(examples, learned, store, job),
        labels=classifier.labels,
        limits=limits(options),
        most=MAX_GATE_PHOTOS,
        python=options.legacy_python,
    )
    verdict = gate.ask(keras_predict(classifier.model), files)
    if failing := [why for name, why in verdict.refused.items() if base_variant(name) == INT8]:
        job.report.line(f"int8 does not hold ({failing[0]}): trying with some operations in float32")
        verdict = gate.rescue_int8(verdict, converted, calibration, folder, options.batch)
    variants = {name: _variant(path, name, verdict) for name, path in files.items() if name not in verdict.refused}
    check_rows(learned.evaluation.scores[Split.TEST], variants[SAVED_MODEL])
    _announce(verdict, job.report)
    golden = write_golden(folder, variants, classifier.input)
    return ExportedVariants(
        about, folder, variants, verdict.refused, verdict.proofs, examples, verdict.answered, golden
    )


def _about(learned: TrainedClassifier) -> ModelInfo:
    now, classifier = utc_now(), learned.classifier
    version = (new_model_id(now), now.isoformat(), str(learned.backbone["name"]))
    release = versions().get("transferlite", "")
    return ModelInfo(*version, classifier.labels, classifier.input, learned.evaluation.threshold, release)


def _sample(learned: TrainedClassifier, split: Split, most: int) -> list[Example]:
    """Photos of a split, from the classes in turn, by content: those of a day lie together, and are like each other."""
    mixed = sorted(learned.examples(split), key=lambda example: example.sha256)
    return balanced_sample(mixed, learned.classifier.labels, most)


def limits(options: TrainOptions) -> GateLimits:
    """What a variant may lose whose weights or activations are rounded."""
    return GateLimits(
        difference=options.max_difference,
        accuracy=options.max_accuracy_drop,
        recall=options.max_recall_drop,
        disagreement=1 - options.min_agreement,
    )


def _variant(path: Path, name: str, verdict: Verdict) -> Variant:
    """A variant that passed, with what was measured in the runtime that serves it."""
    proof = next(one for one in verdict.proofs if one.variant == name)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return Variant(
        path=path.name,
        size=sum(file.stat().st_size for file in files),
        runtime=proof.runtime,
        photos=proof.photos,
        accuracy=proof.accuracy,
        agreement=proof.agreement,
        max_difference=float(proof.max_difference or 0),
        milliseconds=None if path.is_dir() else one_thread_milliseconds(path),
        in_float=verdict.in_float if base_variant(name) == INT8 else (),
    )


def one_thread_milliseconds(path: Path) -> float:
    """What one photo takes a TFLite file here, on one thread: the median of five runs or more in 0.3 s.

    Of a file that takes a batch, its share of one.
    """
    model = TFLiteClassifier(path, threads=1)
    photo = np.full((model.height, model.width, 3), 127, np.uint8)
    model(photo)  # the first run also sets memory aside
    took: list[float] = []
    while len(took) < 5 or sum(took) < 0.3:
        started = time.perf_counter()
        model(photo)
        took.append(time.perf_counter() - started)
    return 1000 * median(took) / model.batch


def _announce(verdict: Verdict, report: Reporter) -> None:
    for proof in verdict.proofs:
        if not proof.failure:
            report.line(
                f"{proof.variant} on {proof.runtime}: accuracy {proof.accuracy:.4f}, agrees with Keras on"
                f" {proof.agreement:.2%} of {proof.photos} photos, largest difference {proof.max_difference:.1e}"
            )
    if verdict.in_float:
        report.line(f"int8 keeps {len(verdict.in_float)} operations in float32")
    for name, reason in verdict.refused.items():
        report.warning(f"{name} is left out: {reason}")


def check_rows(rows: Scores, photos: Variant) -> None:
    """Raises GateError unless the rows that the head learnt from were what the base makes of the photos.

    The accuracy of the head on rows is held against that of the whole model on the same photos, where all were run.
    """
    allowed = max(ROWS_MAY_DIFFER, 1 / max(photos.photos, 1))
    if rows.photos == photos.photos and abs(rows.accuracy - photos.accuracy) > allowed + 1e-9:
        raise GateError(
            f"the head is right on {rows.accuracy:.2%} of the rows and the whole model on {photos.accuracy:.2%} of the"
            " photos they came from",
            hint="the feature store's rows are not this base's: train with another --features, and report it",
        )


def _pictures(
    examples: Sequence[Example], learned: TrainedClassifier, store: FeatureStore, job: JobContext
) -> Iterator[tuple[RGB, int]]:
    labels = learned.classifier.labels
    with job.report.counting("gate", len(examples)) as advance:
        for example, image in zip(examples, decoded_photos(examples, learned.classifier.input, store), strict=True):
            job.stop.check()
            yield image, labels.index(example.label)
            advance()
