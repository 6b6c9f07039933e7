"""From a trained classifier to proven files: convert, and run every variant on held-out photos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from export.convert import FLOAT32, SAVED_MODEL, Graph, write_saved_model, write_tflite
from export.golden_pictures import write_golden
from export.metadata import About, add_metadata
from export.verify import (
    Answered,
    Answers,
    compare,
    judge,
    keras_answers,
    one_thread_milliseconds,
    saved_model_answers,
    tflite_answers,
)
from runtime.bundle import Variant
from runtime.errors import GateError
from runtime.imaging import RGB
from runtime.registry import new_model_id, utc_now
from train_job.dataset import Example, Split
from train_job.divide import Job
from train_job.evaluate import Scores
from train_job.feature_store import FeatureStore
from train_job.learn import Learned
from train_job.progress import Reporter
from train_job.proof_photos import GATE_PHOTOS, decoded, even_sample

CALIBRATION_PHOTOS = 100
ROWS_MAY_DIFFER = 0.01


@dataclass(frozen=True)
class Exported:
    """The files of a bundle that is not sealed yet, and what the gate found.

    Attributes:
        about: what each TFLite file says of itself, the version's id above all.
        folder: where they lie.
        variants: those that passed.
        left_out: those that did not, and why.
        examples: the test photos of the gate.
        answered: what every form said of them.
        float32: the float32 file as a function.
        golden: the file of test pictures, below the folder.
    """

    about: About
    folder: Path
    variants: dict[str, Variant]
    left_out: dict[str, str]
    examples: Sequence[Example]
    answered: Answered
    float32: Answers
    golden: str

    def best(self, example: Example, image: RGB) -> int:
        """The class that the float32 file gives a photo; one of the gate's is not run again."""
        place = self._places.get(example.sha256)
        said = self.float32(image[None])[0] if place is None else self.answered.variants[FLOAT32][place]
        return int(said.argmax())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {example.sha256: place for place, example in enumerate(self.examples)}


def prove(job: Job, learned: Learned, folder: Path) -> Exported:
    """Write the model files to ``folder`` and run each of them on held-out photos.

    Raises:
        GateError: the SavedModel or the float32 file does not answer as the Keras model does.
    """
    classifier, report = learned.classifier, job.report
    report.line("exporting: SavedModel, float32, int8")
    store = FeatureStore.open(job.options.feature_store, report.warning)
    sample = even_sample(learned.examples(Split.TRAIN), classifier.labels, CALIBRATION_PHOTOS)
    calibration = list(decoded(sample, classifier.input, store))
    graph = Graph((classifier.features, classifier.head), classifier.input)
    saved_model = write_saved_model(graph, folder)
    job.stop.check()
    tflite = write_tflite(graph, classifier.input, calibration, folder)
    about = _about(learned)
    for path in tflite.values():
        add_metadata(path, about)
    answers = {SAVED_MODEL: saved_model_answers(saved_model)}
    answers |= {name: tflite_answers(path) for name, path in tflite.items()}
    examples = even_sample(learned.examples(Split.TEST), classifier.labels, GATE_PHOTOS)
    answered = compare(keras_answers(classifier.model), answers, _pictures(examples, learned, store, job))
    paths = {SAVED_MODEL: SAVED_MODEL, **{name: path.name for name, path in tflite.items()}}
    variants, left_out = judge(answered, paths, folder)
    check_rows(learned.evaluation.scores[Split.TEST], variants[SAVED_MODEL])
    for name in variants.keys() & tflite.keys():
        variants[name] = replace(variants[name], milliseconds=one_thread_milliseconds(tflite[name]))
    _announce(variants, left_out, report)
    golden = write_golden(folder, variants, classifier.input)
    return Exported(about, folder, variants, left_out, examples, answered, answers[FLOAT32], golden)


def _about(learned: Learned) -> About:
    now, classifier = utc_now(), learned.classifier
    version = (new_model_id(now), now.isoformat(), str(learned.backbone["name"]))
    return About(*version, classifier.labels, classifier.input, learned.evaluation.threshold)


def _announce(variants: dict[str, Variant], left_out: dict[str, str], report: Reporter) -> None:
    for name, variant in variants.items():
        report.line(
            f"{name}: accuracy {variant.accuracy:.4f}, agrees with Keras on {variant.agreement:.2%} of"
            f" {variant.photos} photos, largest difference {variant.max_difference:.1e}"
        )
    for name, reason in left_out.items():
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
    examples: Sequence[Example], learned: Learned, store: FeatureStore, job: Job
) -> Iterator[tuple[RGB, int]]:
    labels = learned.classifier.labels
    with job.report.counting("gate", len(examples)) as advance:
        for example, image in zip(examples, decoded(examples, learned.classifier.input, store), strict=True):
            job.stop.check()
            yield image, labels.index(example.label)
            advance()
