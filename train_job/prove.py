"""From a trained classifier to a sealed bundle: convert, run every variant on held-out photos, write the manifest."""

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from export.convert import SAVED_MODEL, Graph, write_saved_model, write_tflite
from export.package import seal
from export.verify import compare, judge, keras_answers, saved_model_answers, tflite_answers
from runtime.bundle import Manifest, Variant
from runtime.errors import GateError
from runtime.imaging import RGB
from runtime.registry import new_model_id, utc_now
from train_job.checkpoint import to_npz
from train_job.dataset import Example, Split
from train_job.divide import Job
from train_job.evaluate import Scores
from train_job.feature_store import FeatureStore
from train_job.learn import Learned
from train_job.options import TrainOptions
from train_job.proof_photos import decoded
from train_job.run_record import RUN_JSON, run_json, versions
from train_job.tables import (
    CHECK_JSON,
    DATASET_CSV,
    DEPARTED_CSV,
    HISTORY_CSV,
    NOTES_CSV,
    QUARANTINE_CSV,
    dataset_csv,
    dataset_sha256,
    departed_csv,
    history_csv,
    quarantine_csv,
)
from train_job.tensorboard import EVENTS, write_events
from train_job.warm import HEAD_NPZ

CALIBRATION_PHOTOS = 100
GATE_PHOTOS = 1000
ROWS_MAY_DIFFER = 0.01


def prove(job: Job, learned: Learned, folder: Path) -> Manifest:
    """Write the bundle to ``folder`` and return its manifest.

    Raises:
        GateError: the SavedModel or the float32 file does not answer as the Keras model does.
    """
    classifier, report = learned.classifier, job.report
    report.line("exporting: SavedModel, float32, int8")
    sample = even_sample(learned.examples(Split.TRAIN), classifier.labels, CALIBRATION_PHOTOS)
    store = FeatureStore.open(job.options.feature_store, report.warning)
    calibration = list(decoded(sample, classifier.input, store))
    graph = Graph((classifier.features, classifier.head), classifier.input)
    saved_model = write_saved_model(graph, folder)
    job.stop.check()
    tflite = write_tflite(graph, classifier.input, calibration, folder)
    answers = {SAVED_MODEL: saved_model_answers(saved_model)}
    answers |= {name: tflite_answers(path) for name, path in tflite.items()}
    tallies = compare(keras_answers(classifier.model), answers, _held_out(learned, store, job))
    paths = {SAVED_MODEL: SAVED_MODEL, **{name: path.name for name, path in tflite.items()}}
    variants, left_out = judge(tallies, paths, folder)
    check_rows(learned.scores[Split.TEST], variants[SAVED_MODEL])
    for name, variant in variants.items():
        report.line(
            f"{name}: accuracy {variant.accuracy:.4f}, agrees with Keras on {variant.agreement:.2%} of"
            f" {variant.photos} photos, largest difference {variant.max_difference:.1e}"
        )
    for name, reason in left_out.items():
        report.warning(f"{name} is left out: {reason}")
    manifest = _manifest(job.options, learned, variants, left_out)
    write_events(folder / EVENTS, learned.history)
    (folder / HEAD_NPZ).write_bytes(to_npz(learned.head))
    return seal(folder, manifest, _records(learned) | {RUN_JSON: run_json(job, learned.counts, manifest)})


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


def even_sample(examples: Sequence[Example], labels: Sequence[str], most: int) -> list[Example]:
    """Up to ``most`` of the examples, taken from the classes in turn, each class in the order given."""
    queues = [[example for example in examples if example.label == label] for label in labels]
    longest = max((len(queue) for queue in queues), default=0)
    in_turn = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return in_turn[:most]


def _held_out(learned: Learned, store: FeatureStore, job: Job) -> Iterator[tuple[RGB, int]]:
    labels = learned.classifier.labels
    examples = even_sample(learned.examples(Split.TEST), labels, GATE_PHOTOS)
    with job.report.counting("gate", len(examples)) as advance:
        for example, image in zip(examples, decoded(examples, learned.classifier.input, store), strict=True):
            job.stop.check()
            yield image, labels.index(example.label)
            advance()


def _manifest(options: TrainOptions, learned: Learned, variants: dict[str, Any], left_out: dict[str, str]) -> Manifest:
    now = utc_now()
    labels = learned.classifier.labels
    photos = {split.value: len(learned.examples(split)) for split in Split}
    return Manifest(
        model_id=new_model_id(now),
        created_at=now.isoformat(),
        labels=labels,
        input=learned.classifier.input,
        backbone=learned.backbone,
        training=options.to_dict(),
        dataset={
            "sha256": dataset_sha256(learned.dataset.examples),
            "shares": str(learned.shares),
            "photos": photos,
            "rejected": len(learned.dataset.rejects),
        },
        metrics={split.value: scores.to_dict(labels) for split, scores in learned.scores.items()},
        variants=variants,
        left_out=left_out,
        software={"python": platform.python_version()} | versions(),
    )


def _records(learned: Learned) -> dict[str, str]:
    return {
        DATASET_CSV: dataset_csv(learned.dataset.examples, learned.splits),
        DEPARTED_CSV: departed_csv(learned.earlier, learned.splits),
        QUARANTINE_CSV: quarantine_csv(learned.dataset.rejects),
        NOTES_CSV: quarantine_csv(learned.checked.notes),
        CHECK_JSON: learned.checked.to_json(),
        HISTORY_CSV: history_csv(learned.history),
    }
