"""Export the trained classifier: write the SavedModel and the TFLite variants, and run them all through the gate."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np

from export.gate.compare_variants import GatePredictions, left_out_variants
from export.gate.golden_pictures import write_test_pictures
from export.gate.limits import GateLimits
from export.gate.run_gate import Gate, GateOutcome
from export.gate.runtimes import LoadedSavedModel, PredictFunction, keras_head, tflite_predict
from export.gate.signatures import SIGNATURE_PHOTOS, EncodedPhoto, as_png, signature_results
from export.keras_to_tflite.convert import convert
from export.saved_model.write import write_saved_model
from export.tflite.metadata import ModelInfo
from export.tflite.write_variants import write_variant
from train_job.data.example import Example
from train_job.data.load_photos import fetch
from train_job.extraction.prepare_export import PreparedExport
from train_job.head.model import Classifier
from train_job.options import TrainOptions
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.run_json import software_versions
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.progress import Reporter
from train_job.scores import Scores
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import MAX_GATE_PHOTOS, decoded_photos
from transferlite.errors import GateError, TransferLiteError
from transferlite.images.decoder import RGB, decode
from transferlite.images.input_spec import MAX_BYTES
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.variants import FLOAT32, INT8, SAVED_MODEL, base_variant
from transferlite.registry.manifest import GateResult, Variant
from transferlite.registry.versions import new_model_id, utc_now

_RANKING_PHOTOS = 16
"""Training photos on which the operations of int8 are ranked if it fails the gate."""
MAX_ACCURACY_GAP = 0.01
"""Maximum difference between the head's accuracy on cached features and the SavedModel's on the photos themselves."""


@dataclass(frozen=True)
class ExportedVariants:
    """The exported model files, with the results of the gate.

    Attributes:
        model_info: id, labels and input size, as written into each TFLite file.
        folder: folder of the files.
        variants: variants that passed the gate.
        left_out: variants that failed it, with the reason.
        gate: measurements of each variant in each runtime.
        gate_photos: test photos that the gate used.
        predictions: predictions of every variant for these photos.
        golden: path of the file of test pictures, relative to ``folder``.
    """

    model_info: ModelInfo
    folder: Path
    variants: Mapping[str, Variant]
    left_out: Mapping[str, str]
    gate: tuple[GateResult, ...]
    gate_photos: Sequence[Example]
    predictions: GatePredictions
    golden: str

    def predicted_class(self, example: Example, image: RGB) -> int:
        """Class index that the float32 file predicts; the gate's own prediction if it used the photo."""
        index = self._gate_index.get(example.sha256)
        probabilities = self._float32(image[None])[0] if index is None else self.predictions.by_variant[FLOAT32][index]
        return int(probabilities.argmax())

    @cached_property
    def _float32(self) -> PredictFunction:
        return tflite_predict(self.folder / self.variants[FLOAT32].path)

    @cached_property
    def _gate_index(self) -> dict[str, int]:
        return {example.sha256: i for i, example in enumerate(self.gate_photos)}


def export_variants(
    job: JobContext, trained: TrainedClassifier, prepared: PreparedExport, folder: Path
) -> ExportedVariants:
    """Write the model files to ``folder`` and compare their predictions for test photos with the Keras model's.

    Raises:
        GateError: the SavedModel or the float32 file does not predict what the Keras model predicts.
    """
    classifier, options = trained.classifier, job.options
    job.report.line(f"exporting: SavedModel, {', '.join(options.variants)}")
    if prepared.replaced:
        job.report.warning(
            f"{prepared.replaced} photos are gone or have changed; the export uses the next ones instead"
        )
    store = FeatureStore.open(options.feature_store, job.report.warning)
    head, model_info = classifier.head, _model_info(trained)
    path = write_saved_model(prepared.saved_model, head.get_weights(), classifier.labels, folder)
    converted = convert(prepared.tflite, head, prepared.calibration, model_info)
    files = {SAVED_MODEL: path} | write_variant(converted, options.variants, folder, options.batch)
    job.stop.check()
    saved_model = LoadedSavedModel(path)
    gate = Gate(
        photos=lambda: _labelled_images(prepared.gate_photos, trained, store, job),
        labels=classifier.labels,
        limits=gate_limits(options),
        max_photos=MAX_GATE_PHOTOS,
        saved_model=saved_model,
        legacy_python=options.legacy_python,
    )
    reference = _reference(classifier, prepared, saved_model)
    outcome = gate.run(reference, files)
    if int8_failures := [reason for name, reason in outcome.left_out.items() if base_variant(name) == INT8]:
        job.report.line(f"int8 failed the gate ({int8_failures[0]}): retrying with some operations in float32")
        ranking = list(decoded_photos(prepared.calibration_photos[:_RANKING_PHOTOS], classifier.input, store))
        outcome = gate.retry_int8(outcome, converted, ranking, folder, options.batch)
    encoded = _encoded_photos(prepared, classifier, store)
    signatures = signature_results(saved_model, reference, keras_head(head), encoded, classifier.labels)
    left_out_variants(signatures)
    outcome = replace(outcome, results=(*outcome.results, *signatures))
    if not prepared.proven:
        prepared.keep_saved_model(head)
    variants = {
        name: variant_entry(path, name, outcome) for name, path in files.items() if name not in outcome.left_out
    }
    check_features(trained.evaluation.scores[trained.gate_split], variants[SAVED_MODEL])
    report_gate(outcome, job.report)
    golden = write_test_pictures(folder, variants, classifier.input)
    return ExportedVariants(
        model_info,
        folder,
        variants,
        outcome.left_out,
        outcome.results,
        prepared.gate_photos,
        outcome.predictions,
        golden,
    )


def _reference(classifier: Classifier, prepared: PreparedExport, saved_model: LoadedSavedModel) -> PredictFunction:
    """The Keras model.

    If an earlier job has proven the traced backbone against Keras's layers, the trace computes the feature rows, and
    Keras does not build the backbone again. The head is always Keras's.
    """
    if not prepared.proven:
        return classifier.predict
    head = keras_head(classifier.head)
    return lambda photos: head(saved_model.features(photos))


def _encoded_photos(prepared: PreparedExport, classifier: Classifier, store: FeatureStore) -> list[EncodedPhoto]:
    """The first gate photos for the signature that decodes them itself.

    Their files are fetched until a job has proven the traced graph with them. Later jobs fetch no known photo again:
    they take the cached pixels.
    """
    if not prepared.proven:
        return _fetched_photos(prepared.gate_photos, classifier)
    examples = prepared.gate_photos[:SIGNATURE_PHOTOS]
    images = decoded_photos(examples, classifier.input, store)
    return [
        (as_png(image), image, classifier.labels.index(example.label))
        for example, image in zip(examples, images, strict=True)
    ]


def _fetched_photos(examples: Sequence[Example], classifier: Classifier) -> list[EncodedPhoto]:
    """Fetch the files of the first photos that are still there."""
    found: list[EncodedPhoto] = []
    for example in examples:
        if len(found) == SIGNATURE_PHOTOS:
            break
        with suppress(TransferLiteError):
            data = fetch(example.image, MAX_BYTES).data
            if hashlib.sha256(data).hexdigest() == example.sha256:
                found.append((data, decode(data, classifier.input), classifier.labels.index(example.label)))
    return found


def _model_info(trained: TrainedClassifier) -> ModelInfo:
    now, classifier = utc_now(), trained.classifier
    return ModelInfo(
        model_id=new_model_id(now),
        created_at=now.isoformat(),
        backbone=str(trained.backbone["name"]),
        labels=classifier.labels,
        input=classifier.input,
        threshold=trained.evaluation.threshold,
        release=software_versions().get("transferlite", ""),
    )


def gate_limits(options: TrainOptions) -> GateLimits:
    """The gate's limits for variants with rounded weights or activations."""
    return GateLimits(
        max_difference=options.max_difference,
        max_accuracy_drop=options.max_accuracy_drop,
        max_recall_drop=options.max_recall_drop,
        max_disagreement=1 - options.min_agreement,
    )


def variant_entry(path: Path, name: str, outcome: GateOutcome) -> Variant:
    """The manifest's entry of a variant, with the gate's measurements in the runtime that serves it."""
    result = next(result for result in outcome.results if result.variant == name)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return Variant(
        path=path.name,
        size=sum(file.stat().st_size for file in files),
        runtime=result.runtime,
        photos=result.photos,
        accuracy=result.accuracy,
        agreement=result.agreement,
        max_difference=float(result.max_difference or 0),
        milliseconds=None if path.is_dir() else one_thread_milliseconds(path),
        in_float=outcome.in_float if base_variant(name) == INT8 else (),
    )


def one_thread_milliseconds(path: Path) -> float:
    """Median milliseconds per photo of a TFLite file on one thread, over at least five runs and 0.1 s.

    The time of a file with a larger batch is divided by its batch size.
    """
    model = TFLiteClassifier(path, threads=1)
    photo = np.full((model.height, model.width, 3), 127, np.uint8)
    model(photo)  # the first run also allocates memory
    seconds: list[float] = []
    while len(seconds) < 5 or sum(seconds) < 0.1:
        started = time.perf_counter()
        model(photo)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds) / model.batch


def report_gate(outcome: GateOutcome, report: Reporter) -> None:
    """Print what the gate measured, and a warning for each variant that is left out."""
    for result in outcome.results:
        if not result.failure:
            accuracy = "" if result.accuracy is None else f"accuracy {result.accuracy:.4f}, "
            report.line(
                f"{result.variant} on {result.runtime}: {accuracy}agrees with Keras on {result.agreement:.2%} of"
                f" {result.photos} photos, largest difference {result.max_difference:.1e}"
            )
    if outcome.in_float:
        report.line(f"int8 keeps {len(outcome.in_float)} operations in float32")
    for name, reason in outcome.left_out.items():
        report.warning(f"{name} is left out: {reason}")


def check_features(features: Scores, saved_model: Variant) -> None:
    """Check that the cached features belong to this backbone, by comparing accuracies on the same test photos.

    Skipped if the gate used only a sample of the test photos.

    Raises:
        GateError: the head's accuracy on the features differs from the SavedModel's on the photos.
    """
    allowed = max(MAX_ACCURACY_GAP, 1 / max(saved_model.photos, 1))
    assert saved_model.accuracy is not None
    gap = abs(features.accuracy - saved_model.accuracy)
    if features.photos == saved_model.photos and gap > allowed + 1e-9:
        raise GateError(
            f"test accuracy is {features.accuracy:.2%} on cached features but {saved_model.accuracy:.2%} on the photos",
            hint="the feature store was made with other weights: pass another --features, and report this",
        )


def _labelled_images(
    examples: Sequence[Example], trained: TrainedClassifier, store: FeatureStore, job: JobContext
) -> Iterator[tuple[RGB, int]]:
    """Decode photos one after another, each with the index of its class."""
    labels, spec = trained.classifier.labels, trained.classifier.input
    with job.report.progress("gate", len(examples)) as advance:
        for example, image in zip(examples, decoded_photos(examples, spec, store), strict=True):
            job.stop.check()
            yield image, labels.index(example.label)
            advance()
