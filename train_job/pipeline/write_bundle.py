"""Write everything but the model files into the bundle's folder: ``training/`` files, report, model card, manifest."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from train_job.evaluation.comparison import Comparison
from train_job.evaluation.evaluate import EVALUATION_JSON, evaluation_json
from train_job.head.checkpoint import to_npz
from train_job.head.warm_start import HEAD_NPZ
from train_job.pipeline.build_manifest import build_manifest
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.gather_report import gather_report
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.run_json import RUN_JSON, run_json
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.pipeline.training_csvs import (
    CHECK_JSON,
    DATASET_CSV,
    DEPARTED_CSV,
    HISTORY_CSV,
    LEARNT_CSV,
    NOTES_CSV,
    QUARANTINE_CSV,
    dataset_csv,
    departed_csv,
    history_csv,
    learnt_csv,
    quarantine_csv,
)
from train_job.reporting import html_report, model_card
from train_job.reporting.bill_of_materials import SBOM, bill_of_materials
from train_job.reporting.html_report import REPORT_HTML
from train_job.reporting.model_card import MODEL_CARD
from train_job.reporting.tensorboard import EVENTS, write_events
from transferlite.registry.local_bundle import describe_files
from transferlite.registry.manifest import FAMILIARITY, LABELS, MANIFEST, Manifest


def write_bundle(
    job: JobContext,
    trained: TrainedClassifier,
    exported: ExportedVariants,
    comparison: Comparison | None,
    promoted: bool,
    refused: Sequence[str] = (),
) -> Manifest:
    """Write the ``training/`` files, the report and, last, the manifest beside the exported variants.

    ``promoted`` says whether the job is going to promote the version, and ``refused`` why not. Returns the manifest.
    """
    folder, folds = exported.folder, trained.evaluated.cross_validation
    evaluation = trained.evaluation.to_dict(exported.predictions, folds.to_dict() if folds else None)
    changes = trained.label_changes
    evaluation["warnings"] = [*trained.warnings, *([changes.summary()] if changes.changed else [])]
    evaluation["label_changes"] = changes.to_dict() if changes.model_id else None
    evaluation["baseline"] = trained.evaluated.baseline.to_dict()
    evaluation["familiarity"] = trained.evaluated.familiarity_effect
    evaluation["promotion"] = {"promoted": promoted, "reasons": list(refused)}
    evaluation["comparison"] = comparison.to_dict() | {"promoted": promoted} if comparison else None
    manifest = build_manifest(job, trained, exported)
    data = gather_report(job, trained, manifest, evaluation)
    text_files = {
        REPORT_HTML: html_report.render(data),
        MODEL_CARD: model_card.render(data),
        DATASET_CSV: dataset_csv(trained.dataset.examples, trained.splits),
        DEPARTED_CSV: departed_csv(trained.previous.splits, trained.splits),
        LEARNT_CSV: learnt_csv(trained.ancestors, trained.splits),
        QUARANTINE_CSV: quarantine_csv(trained.dataset.rejected),
        NOTES_CSV: quarantine_csv(trained.check.notes),
        CHECK_JSON: trained.check.to_json(),
        HISTORY_CSV: history_csv(trained.history),
        EVALUATION_JSON: evaluation_json(evaluation),
        RUN_JSON: run_json(job, trained.extraction_counts, manifest),
        SBOM: bill_of_materials(manifest),
    }
    write_events(folder / EVENTS, trained.history)
    if familiarity := trained.evaluated.familiarity:
        (folder / FAMILIARITY).write_bytes(familiarity.to_bytes())
    (folder / HEAD_NPZ).write_bytes(to_npz(trained.head_weights))
    return complete_bundle(folder, manifest, text_files)


def complete_bundle(folder: Path, manifest: Manifest, text_files: Mapping[str, str]) -> Manifest:
    """Complete a bundle whose ``folder`` holds the variants' files; returns the manifest with its list of files.

    Removes the TFLite files of variants that were left out, writes ``labels.txt`` and ``text_files`` (content by
    relative path), hashes every file, and writes the manifest last.
    """
    for name in manifest.left_out:
        (folder / f"{name}.tflite").unlink(missing_ok=True)
    (folder / LABELS).write_text("".join(f"{label}\n" for label in manifest.labels), encoding="utf-8")
    for path, text in text_files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        errors = "surrogateescape" if path.endswith(".csv") else "backslashreplace"  # file names that are not UTF-8
        (folder / path).write_bytes(text.encode(errors=errors))
    complete = dataclasses.replace(manifest, files=describe_files(folder))
    (folder / MANIFEST).write_bytes(complete.to_json())
    return complete
