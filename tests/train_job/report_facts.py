"""Facts of an invented version, for tests of the report and the model card."""

from typing import Any

import numpy as np

from tests.transferlite.bundles import manifest_of
from train_job.data.example import RejectedPhoto
from train_job.head.recipe import Epoch
from train_job.reporting.cost import Machine, cost_receipt
from train_job.reporting.grad_cam import overlay, thumbnail
from train_job.reporting.report_data import LabelIssuePhoto, Mistake, NearDuplicate, ReportData
from train_job.scores import Scores
from transferlite.images.decoder import RGB
from transferlite.registry.manifest import Manifest

MACHINE = Machine("this machine, 2 cores, x86_64")


def detailed_image(number: int) -> RGB:
    """A detailed image ``[160, 160, 3]``, whose JPEG is about as large as that of a photo."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (20, 20, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    noisy = coarse + random.normal(0, 12, coarse.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def jpegs(number: int) -> tuple[bytes, bytes]:
    """A thumbnail, and one with a heat map."""
    heat = np.random.default_rng(number).random((7, 7)).astype(np.float32)
    return thumbnail(detailed_image(number)), overlay(detailed_image(number), heat)


def confusion_of(classes: int, photos: int) -> Any:
    """Confusion matrix of mostly correct predictions, ``[classes, classes]``."""
    random = np.random.default_rng(0)
    matrix = random.poisson(0.08 * photos / classes / max(classes - 1, 1), (classes, classes))
    np.fill_diagonal(matrix, photos // classes)
    return matrix


def model_facts(labels: tuple[str, ...], photos: int, curves: bool = True) -> dict[str, Any]:
    """A model's entry in evaluation.json."""
    matrix = confusion_of(len(labels), photos)
    correct, labelled, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    recall, precision = correct / labelled, correct / np.maximum(predicted, 1)
    grid = np.linspace(0, 1, 200)
    facts: dict[str, Any] = {
        "photos": int(labelled.sum()),
        "right": int(correct.sum()),
        "accuracy": float(correct.sum() / labelled.sum()),
        "interval": [0.876, 0.941],
        "macro_f1": 0.905,
        "balanced_accuracy": float(recall.mean()),
        "log_loss": 0.281,
        "calibration_error": 0.021,
        "classes": {
            label: {
                "photos": int(labelled[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(2 * precision[i] * recall[i] / (precision[i] + recall[i])),
                "threshold": None if i == 0 else 0.41,
            }
            for i, label in enumerate(labels)
        },
        "confusion": matrix.tolist(),
        "reliability": [
            {"confidence": low + 0.05, "accuracy": low + 0.03, "photos": 3 * i**2}
            for i, low in enumerate(np.linspace(0, 0.9, 10).tolist())
        ],
    }
    if curves:
        facts["curves"] = {
            label: {"precision": (1 - grid ** (8 - i % 5)).tolist(), "recall": grid.tolist()}
            for i, label in enumerate(labels)
        }
    return facts


def manifest_facts(labels: tuple[str, ...], photos: int) -> Manifest:
    """The manifest, before it is sealed."""
    split = {"train": photos, "validation": photos // 8, "test": photos // 8}
    scores = {name: Scores(confusion_of(len(labels), count), 30.0) for name, count in split.items()}
    return manifest_of(
        "20260131-235959-3f9a1c07",
        labels=labels,
        training={"images": "s3://my-photos/train", "epochs": 100, "class_weights": "none", "image_size": None},
        dataset={"sha256": "7f" * 32, "shares": "80/10/10", "photos": split, "rejected": 60},
        metrics={name: split_scores.to_dict(labels) for name, split_scores in scores.items()},
    )


COUNTS = {"photos": 250, "answered": 214, "right": 206}


def evaluation_facts(labels: tuple[str, ...], photos: int) -> dict[str, Any]:
    """The content of evaluation.json."""
    keras = model_facts(labels, photos)
    keras["reliability_before"] = [entry | {"accuracy": 0.8 * entry["accuracy"]} for entry in keras["reliability"]]
    return {
        "labels": list(labels),
        "temperature": 1.83,
        "calibration": {"test": {"before": 0.052, "after": 0.021}, "validation": {"before": 0.048, "after": 0.017}},
        "abstention": {
            "precision": 0.95,
            "threshold": 0.612,
            "choices": [
                {"precision": 0.9, "threshold": 0.0, "validation": COUNTS, "test": COUNTS},
                {"precision": 0.95, "threshold": 0.612, "validation": COUNTS, "test": COUNTS},
                {"precision": 0.99, "threshold": None, "validation": None, "test": None},
            ],
        },
        "models": {"keras": keras, "float32": model_facts(labels, photos, curves=False)},
        "folds": {"count": 5, "accuracies": [0.9, 0.92, 0.91, 0.89, 0.93], "mean": 0.91, "interval": [0.89, 0.93]},
    }


def facts(labels: tuple[str, ...] = ("blue", "red"), photos: int = 250, lists: int = 3) -> ReportData:
    """Facts with every optional part; ``lists`` is the length of each list."""
    some = list(range(lists))
    thumbnails = [jpegs(number) for number in some]
    uris = [f"s3://my-photos/train/{labels[n % len(labels)]}/photo {n}.jpg" for n in some]
    return ReportData(
        manifest=manifest_facts(labels, photos),
        evaluation=evaluation_facts(labels, photos),
        history=[Epoch(n + 1, 1 / (n + 1), 1 - 0.5 / (n + 1), 1.2 / (n + 1), 1 - 0.6 / (n + 1)) for n in range(100)],
        rejected_photos=[
            RejectedPhoto(uri, n + 2, "truncated", "cannot be decoded (image file is truncated)")
            for n, uri in enumerate(uris)
        ],
        findings={
            "photos": photos,
            "codes": {"truncated": lists, "cmyk": 4},
            "near_duplicates": [[uri, uri] for uri in uris],
            "leakage": [[uri, f"{uri}.copy.jpg"] for uri in uris],
        },
        mistakes=[Mistake(uris[n], labels[0], labels[1], 0.99 - n / 1e5, *thumbnails[n]) for n in some],
        label_issues=[LabelIssuePhoto(uris[n], labels[1], labels[0], n / 1e5, n + 2, thumbnails[n][0]) for n in some],
        near_duplicates=[[NearDuplicate(uris[n], labels[0], "train", thumbnails[n][0])] * 3 for n in some],
        seconds={"data": 0.8, "features": 9.4, "head": 5.1, "evaluate": 1.2, "export": 14.9, "total": 33.0},
        receipt=cost_receipt({"total": 33.0}, photos, {"float32": 6.7, "int8": 3.3}, MACHINE),
        comparison={
            "champion": "20260130-120000-aabbccdd",
            "photos": 250,
            "both_right": 220,
            "only_champion": 12,
            "only_challenger": 3,
            "p_value": 0.035,
            "tolerance": 0.02,
            "levels": {"overall": 0.04, "classes": 0.02},
            "classes": {
                label: {"photos": 50, "champion": 48, "challenger": 48 - n % 5}
                | {"p_value": 0.125, "checked": n != 1, "detectable": 0.17}
                for n, label in enumerate(labels)
            },
            "notes": [f"promotion check: fewer than 5 test photos in 1 of {len(labels)} classes"],
            "promoted": False,
            "reasons": [f"{labels[0]} loses 4 of 50 photos, and may lose 2"],
        },
    )
