"""What a version keeps of its training: the manifest, and the records beside it."""

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train_job.data.dataset import Split
from train_job.evaluation.evaluate import EVALUATION_JSON, evaluation_json
from train_job.head.checkpoint import to_npz
from train_job.head.warm_start import HEAD_NPZ
from train_job.pipeline.csv_records import (
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
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.gather_report import gather_report
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.promotion import Comparison
from train_job.pipeline.run_record import BATCH_JOB, RUN_JSON, batch_job, run_json, versions
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.reporting import html_report as report
from train_job.reporting import model_card
from train_job.reporting.html_report import REPORT_HTML
from train_job.reporting.model_card import MODEL_CARD
from train_job.reporting.tensorboard import EVENTS, write_events
from transferlite.registry.local_bundle import describe_files
from transferlite.registry.manifest import LABELS, MANIFEST, Manifest


def write_records(
    job: JobContext,
    learned: TrainedClassifier,
    exported: ExportedVariants,
    comparison: Comparison | None,
    promoted: bool,
) -> Manifest:
    """Write the records, the report and, last, the manifest into the folder of the exported files; returns that.

    ``promoted`` is whether the version is going to be.
    """
    folder = exported.folder
    evaluation = learned.evaluation.to_dict(exported.answered, learned.folds)
    evaluation["comparison"] = comparison.to_dict() | {"promoted": promoted} if comparison else None
    manifest = _manifest(job, learned, exported)
    data = gather_report(job, learned, manifest, evaluation)
    records = {
        REPORT_HTML: report.render(data),
        MODEL_CARD: model_card.render(data),
        DATASET_CSV: dataset_csv(learned.dataset.examples, learned.splits),
        DEPARTED_CSV: departed_csv(learned.earlier, learned.splits),
        QUARANTINE_CSV: quarantine_csv(learned.dataset.rejected),
        NOTES_CSV: quarantine_csv(learned.checked.notes),
        CHECK_JSON: learned.checked.to_json(),
        HISTORY_CSV: history_csv(learned.history),
        EVALUATION_JSON: evaluation_json(evaluation),
        RUN_JSON: run_json(job, learned.counts, manifest),
    }
    write_events(folder / EVENTS, learned.history)
    (folder / HEAD_NPZ).write_bytes(to_npz(learned.head))
    return seal(folder, manifest, records)


def _manifest(job: JobContext, learned: TrainedClassifier, exported: ExportedVariants) -> Manifest:
    evaluation, labels = learned.evaluation, learned.classifier.labels
    photos = {split.value: len(learned.examples(split)) for split in Split}
    metrics: dict[str, Any] = {split.value: scores.to_dict(labels) for split, scores in evaluation.scores.items()}
    metrics[Split.TEST.value] |= _summary(evaluation.measures())
    if Split.VALIDATION.value in metrics:
        metrics[Split.VALIDATION.value] |= evaluation.confidences()
    return Manifest(
        model_id=exported.about.model_id,
        created_at=exported.about.created_at,
        labels=labels,
        input=learned.classifier.input,
        backbone=learned.backbone,
        training=job.options.to_dict() | ({BATCH_JOB: batch_job()} if batch_job() else {}),
        dataset={
            "sha256": dataset_sha256(learned.dataset.examples),
            "shares": str(learned.shares),
            "photos": photos,
            "rejected": len(learned.dataset.rejected),
        },
        metrics=metrics,
        variants=exported.variants,
        left_out=exported.left_out,
        software={"python": platform.python_version()} | versions(),
        threshold=evaluation.threshold,
        calibration={
            "temperature": evaluation.temperature,
            "error": evaluation.errors,
            "precision": evaluation.precision,
        },
        golden=exported.golden,
        gate=exported.gate,
    )


def _summary(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with the square of the classes, or is for drawing: a Lambda reads this at every cold start."""
    return {name: value for name, value in measured.items() if name not in {"confusion", "reliability", "right"}}


def seal(folder: Path, manifest: Manifest, records: Mapping[str, str]) -> Manifest:
    """Complete the bundle in ``folder``, which holds the variants' files.

    TFLite files of variants that were left out are removed; the labels and ``records`` (text files by relative path)
    are written; then every file is described, and the manifest written.

    Returns the manifest with its files.
    """
    for name in manifest.left_out:
        (folder / f"{name}.tflite").unlink()
    (folder / LABELS).write_text("".join(f"{label}\n" for label in manifest.labels), encoding="utf-8")
    for path, text in records.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sealed = dataclasses.replace(manifest, files=describe_files(folder))
    (folder / MANIFEST).write_bytes(sealed.to_json())
    return sealed
