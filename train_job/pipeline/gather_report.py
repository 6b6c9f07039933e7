"""What the report of a version shows: its facts, and the photos worth looking at, small and as the model sees them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train_job.data.dataset import Example, Split
from train_job.pipeline.prepare_data import JobContext
from train_job.pipeline.train_classifier import TrainedClassifier
from train_job.reporting import grad_cam as saliency
from train_job.reporting.cost import receipt
from train_job.reporting.html_report import MOST_GROUPS, MOST_IN_GROUP, MOST_MISTAKES, MOST_SUSPECTS
from train_job.reporting.report_data import LabelIssuePhoto, Mistake, NearDuplicate, ReportData
from train_job.store.feature_store import FeatureStore
from train_job.store.pixel_cache import available_photos, cached_photos, decoded_photos
from transferlite.images.decoder import RGB
from transferlite.registry.manifest import Manifest


def gather_report(
    job: JobContext, learned: TrainedClassifier, manifest: Manifest, evaluation: Mapping[str, Any]
) -> ReportData:
    """The report's content.

    A photo is named without a picture if it has gone since it was trained on, or if it would have to be fetched for
    nothing else: a training downloads what is new.
    """
    mistakes = worst_mistakes(learned)[:MOST_MISTAKES]
    suspects = learned.suspects[:MOST_SUSPECTS]
    examples = learned.dataset.examples
    alike = _alike(learned)
    shown = [example for example, _, _ in mistakes] + [examples[one.place] for one in suspects]
    shown += [example for group in alike for example in group]
    images = _images(shown, learned, FeatureStore.open(job.options.feature_store, job.report.warning))
    small = {sha256: saliency.thumbnail(image) for sha256, image in images.items()}
    labels = learned.classifier.labels
    return ReportData(
        manifest=manifest,
        evaluation=evaluation,
        history=learned.history,
        rejects=learned.dataset.rejected,
        mistakes=_with_maps(mistakes, images, small, learned),
        suspects=[
            LabelIssuePhoto(
                uri=examples[one.place].image,
                label=labels[one.given],
                suggested=labels[one.suggested],
                score=one.score,
                row=examples[one.place].row,
                thumbnail=small.get(examples[one.place].sha256, b""),
            )
            for one in suspects
        ],
        findings=learned.checked.summary,
        near_duplicates=[
            [
                NearDuplicate(one.image, one.label, learned.splits[one.sha256], small.get(one.sha256, b""))
                for one in group
            ]
            for group in alike
        ],
        seconds=dict(job.phases.seconds),
        receipt=receipt(
            job.phases.seconds,
            len(examples),
            {name: variant.milliseconds for name, variant in manifest.variants.items()},
        ),
        comparison=evaluation["comparison"],
    )


def _alike(learned: TrainedClassifier) -> list[list[Example]]:
    """The largest groups of photos that look alike, a few of each."""
    by_hash = {one.sha256: one for one in learned.dataset.examples}
    largest = sorted(learned.near.groups, key=len, reverse=True)[:MOST_GROUPS]
    return [[by_hash[sha256] for sha256 in group[:MOST_IN_GROUP]] for group in largest]


def worst_mistakes(learned: TrainedClassifier) -> list[tuple[Example, int, float]]:
    """Each test photo that was called wrongly, with the class it was called and its probability, the surest first."""
    probabilities, truth = learned.evaluation.answers[Split.TEST]
    tests = [one for one in learned.dataset.examples if learned.splits[one.sha256] is Split.TEST]
    called, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(called != truth)
    return [(tests[one], int(called[one]), float(sure[one])) for one in wrong[np.argsort(-sure[wrong], kind="stable")]]


def _images(examples: Sequence[Example], learned: TrainedClassifier, store: FeatureStore) -> dict[str, RGB]:
    distinct = list({example.sha256: example for example in examples}.values())
    known = set(cached_photos(distinct, learned.classifier.input, store))
    wanted = [example for example in distinct if example in known or example.image in learned.new]
    there = available_photos(wanted, learned.classifier.input, store)
    pictures = decoded_photos(there, learned.classifier.input, store)
    return {example.sha256: image for example, image in zip(there, pictures, strict=True)}


def _with_maps(
    mistakes: Sequence[tuple[Example, int, float]],
    images: Mapping[str, RGB],
    small: Mapping[str, bytes],
    learned: TrainedClassifier,
) -> list[Mistake]:
    seen = [(example, called) for example, called, _ in mistakes if example.sha256 in images]
    heat: dict[str, bytes] = {}
    if seen:
        pictures = np.stack([images[example.sha256] for example, _ in seen])
        classes = np.array([called for _, called in seen])
        maps = saliency.activation_maps(learned.classifier.maps, learned.classifier.head, pictures, classes)
        pairs = zip(seen, pictures, maps, strict=True)
        heat = {example.sha256: saliency.overlay(picture, spoken) for (example, _), picture, spoken in pairs}
    labels = learned.classifier.labels
    return [
        Mistake(
            uri=example.image,
            label=example.label,
            predicted=labels[called],
            confidence=sure,
            thumbnail=small.get(example.sha256, b""),
            heat_map=heat.get(example.sha256, b""),
        )
        for example, called, sure in mistakes
    ]
