"""Build the manifest of a new version from the trained classifier and its exported variants."""

import platform
from collections.abc import Mapping
from typing import Any

from export.gate.choose_variant import choose_variant
from train_job.data.example import Split
from train_job.data.photos import SPLIT_CODES
from train_job.pipeline.export_variants import ExportedVariants
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.run_json import BATCH_JOB, batch_job, software_versions
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.pipeline.training_csvs import dataset_sha256
from transferlite.registry.manifest import FAMILIARITY, Manifest

_NOT_IN_MANIFEST = frozenset({"confusion", "reliability", "right"})
"""Metrics kept in ``evaluation.json`` only: Lambda reads the manifest at every cold start, and they grow with the
square of the classes or only serve plots."""


def build_manifest(job: JobContext, trained: TrainedClassifier, exported: ExportedVariants) -> Manifest:
    """Build the manifest; its list of files is empty until the bundle is complete."""
    evaluation = trained.evaluation
    return Manifest(
        model_id=exported.model_info.model_id,
        created_at=exported.model_info.created_at,
        labels=trained.classifier.labels,
        input=trained.classifier.input,
        backbone=trained.backbone,
        training=job.options.to_dict() | ({BATCH_JOB: batch_job()} if batch_job() else {}),
        dataset=_dataset(trained),
        metrics=_metrics(trained),
        variants=exported.variants,
        left_out=exported.left_out,
        software={"python": platform.python_version()} | software_versions(),
        threshold=evaluation.threshold,
        calibration={
            "temperature": evaluation.temperature,
            "error": evaluation.calibration_errors,
            "precision": evaluation.precision,
        },
        golden=exported.golden,
        familiarity=FAMILIARITY if trained.evaluated.familiarity else "",
        negative=job.options.negative_class if job.options.negative_class in trained.classifier.labels else "",
        gate=exported.gate,
        auto=choose_variant(exported.predictions, exported.variants),
    )


def _dataset(trained: TrainedClassifier) -> dict[str, Any]:
    return {
        "sha256": dataset_sha256(trained.dataset.examples),
        "shares": str(trained.shares),
        "photos": {split.value: int((trained.split_codes == SPLIT_CODES[split]).sum()) for split in Split},
        "rejected": len(trained.dataset.rejected),
    }


def _metrics(trained: TrainedClassifier) -> dict[str, Any]:
    evaluation = trained.evaluation
    metrics: dict[str, Any] = {
        split.value: scores.to_dict(trained.classifier.labels) for split, scores in evaluation.scores.items()
    }
    metrics[Split.TEST.value] |= _without_details(evaluation.metrics())
    if Split.VALIDATION.value in metrics:
        metrics[Split.VALIDATION.value] |= evaluation.confidence_histogram()
    return metrics


def _without_details(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in _NOT_IN_MANIFEST}
