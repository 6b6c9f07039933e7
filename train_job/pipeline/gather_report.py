"""Gather the content of a version's report: metrics, and thumbnails of mistakes, label issues and near-duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train_job.data.example import Example, Split
from train_job.digests import digests_from_hex, indices_in
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.reporting import grad_cam
from train_job.reporting.cost import cost_receipt
from train_job.reporting.html_report import MAX_GROUPS, MAX_LABEL_ISSUES, MAX_MISTAKES, MAX_PHOTOS_PER_GROUP
from train_job.reporting.report_data import LabelIssuePhoto, Mistake, NearDuplicate, ReportData
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import available_photos, cached_photos, decoded_photos
from transferlite.images.decoder import RGB
from transferlite.registry.manifest import Manifest


@dataclass(frozen=True)
class WrongPrediction:
    """A test photo with the wrong class index that the model predicted, and its confidence."""

    example: Example
    predicted: int
    confidence: float


def gather_report(
    job: JobContext, trained: TrainedClassifier, manifest: Manifest, evaluation: Mapping[str, Any]
) -> ReportData:
    """Gather the report's content.

    A photo is listed without a thumbnail if it is gone, or if it would have to be fetched only for the report.
    """
    wrong = worst_predictions(trained, MAX_MISTAKES)
    issues = trained.label_issues[:MAX_LABEL_ISSUES]
    examples = trained.dataset.examples
    groups = _largest_groups(trained)
    shown = [mistake.example for mistake in wrong] + [examples[issue.index] for issue in issues]
    shown += [example for group in groups for example in group]
    images = _images(shown, trained, FeatureStore.open(job.options.feature_store, job.report.warning))
    thumbnails = {sha256: grad_cam.thumbnail(image) for sha256, image in images.items()}
    return ReportData(
        manifest=manifest,
        evaluation=evaluation,
        history=trained.history,
        rejected_photos=trained.dataset.rejected,
        mistakes=_mistakes(wrong, images, thumbnails, trained),
        label_issues=_label_issue_photos(trained, thumbnails),
        findings=trained.check.summary,
        near_duplicates=[
            [
                NearDuplicate(
                    example.image, example.label, trained.splits[example.sha256], thumbnails.get(example.sha256, b"")
                )
                for example in group
            ]
            for group in groups
        ],
        seconds=dict(job.phases.seconds),
        receipt=cost_receipt(
            job.phases.seconds,
            len(examples),
            {name: variant.milliseconds for name, variant in manifest.variants.items()},
        ),
        comparison=evaluation["comparison"],
    )


def _label_issue_photos(trained: TrainedClassifier, thumbnails: Mapping[str, bytes]) -> list[LabelIssuePhoto]:
    labels, examples = trained.classifier.labels, trained.dataset.examples
    return [
        LabelIssuePhoto(
            uri=examples[issue.index].image,
            label=labels[issue.given],
            suggested=labels[issue.suggested],
            score=issue.score,
            row=examples[issue.index].row,
            thumbnail=thumbnails.get(examples[issue.index].sha256, b""),
        )
        for issue in trained.label_issues[:MAX_LABEL_ISSUES]
    ]


def _largest_groups(trained: TrainedClassifier) -> list[list[Example]]:
    """The largest groups of near-duplicates, with the first few photos of each."""
    photos, groups = trained.dataset.examples, trained.near_duplicates.groups
    order = np.argsort(photos.digests)
    largest = sorted(groups, key=len, reverse=True)[:MAX_GROUPS]
    shown = [digests_from_hex(list(group[:MAX_PHOTOS_PER_GROUP])) for group in largest]
    return [list(photos.take(order[indices_in(photos.digests[order], digests)])) for digests in shown]


def worst_predictions(trained: TrainedClassifier, count: int) -> list[WrongPrediction]:
    """The first ``count`` wrong predictions for test photos, the most confident first."""
    probabilities, truth = trained.evaluation.predictions[Split.TEST]
    tests = trained.tested_examples
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [WrongPrediction(tests[int(i)], int(predicted[i]), float(confidence[i])) for i in order]


def _images(examples: Sequence[Example], trained: TrainedClassifier, store: FeatureStore) -> dict[str, RGB]:
    """Decoded photos by sha256: those in the pixel cache, and new ones, which this job has fetched anyway."""
    spec = trained.classifier.input
    distinct = list({example.sha256: example for example in examples}.values())
    cached = set(cached_photos(distinct, spec, store))
    wanted = [example for example in distinct if example in cached or example.image in trained.new_uris]
    available = available_photos(wanted, spec, store)
    images = decoded_photos(available, spec, store)
    return {example.sha256: image for example, image in zip(available, images, strict=True)}


def _mistakes(
    wrong: Sequence[WrongPrediction],
    images: Mapping[str, RGB],
    thumbnails: Mapping[str, bytes],
    trained: TrainedClassifier,
) -> list[Mistake]:
    heat_maps = _heat_maps([mistake for mistake in wrong if mistake.example.sha256 in images], images, trained)
    labels = trained.classifier.labels
    return [
        Mistake(
            uri=mistake.example.image,
            label=mistake.example.label,
            predicted=labels[mistake.predicted],
            confidence=mistake.confidence,
            thumbnail=thumbnails.get(mistake.example.sha256, b""),
            heat_map=heat_maps.get(mistake.example.sha256, b""),
        )
        for mistake in wrong
    ]


def _heat_maps(
    wrong: Sequence[WrongPrediction], images: Mapping[str, RGB], trained: TrainedClassifier
) -> dict[str, bytes]:
    """Grad-CAM overlays by sha256: the regions that led to the wrong class."""
    if not wrong:
        return {}
    batch = np.stack([images[mistake.example.sha256] for mistake in wrong])
    classes = np.array([mistake.predicted for mistake in wrong])
    maps = grad_cam.activation_maps(trained.classifier.activation_maps, trained.classifier.head, batch, classes)
    return {
        mistake.example.sha256: grad_cam.overlay(image, heat)
        for mistake, image, heat in zip(wrong, batch, maps, strict=True)
    }
