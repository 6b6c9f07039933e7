"""Calibrate and evaluate a trained model, for ``training/evaluation.json``, the manifest and the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.gate.compare_variants import GatePredictions
from train_job.data.example import Split
from train_job.evaluation.abstention import PRECISIONS, choose_threshold, count_abstentions
from train_job.evaluation.confidence_calibration import (
    apply_temperature,
    calibration_error,
    fit_temperature,
    reliability,
)
from train_job.evaluation.metrics import compute_metrics, operating_thresholds, precision_recall_curves, wilson_interval
from train_job.head.fit import predict_in_chunks, predict_probabilities
from train_job.head.row_sets import RowSet
from train_job.scores import Scores, score_predictions

EVALUATION_JSON = "training/evaluation.json"

MAX_INTERVAL_WIDTH = 0.2
"""Width of the accuracy's 95% interval above which a test set is reported as small."""

LabelledProbabilities = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Probabilities ``[N, C]`` and true labels ``[N]``."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions and scores of a trained head after calibration.

    Attributes:
        labels: class names.
        temperature: temperature fitted on the validation photos; 1 without any.
        calibration_errors: calibration error ``before`` and ``after`` calibration, by split.
        predictions: probabilities and labels of the validation and the test photos.
        uncalibrated: probabilities and labels of the test photos before calibration.
        scores: scores of each split that has photos.
        precision: precision that the confidence threshold must reach; None predicts a class for every photo.
        cross_validated: whether the predictions of the test split are out-of-fold predictions of all photos.
    """

    labels: tuple[str, ...]
    temperature: float
    calibration_errors: Mapping[str, Mapping[str, float]]
    predictions: Mapping[Split, LabelledProbabilities]
    uncalibrated: LabelledProbabilities
    scores: Mapping[Split, Scores]
    precision: float | None
    cross_validated: bool = False

    @property
    def chosen_threshold(self) -> dict[str, Any] | None:
        """The threshold for ``precision`` and its effect; None without ``precision``."""
        return None if self.precision is None else self._choice(self.precision)

    @property
    def threshold(self) -> float:
        """Confidence below which the model returns ``unknown``; 0 if none is needed or none reaches the precision."""
        return (self.chosen_threshold or {}).get("threshold") or 0.0

    def _choice(self, precision: float) -> dict[str, Any]:
        return choose_threshold(precision, self.predictions[Split.VALIDATION], self.predictions[Split.TEST])

    def metrics(self) -> dict[str, Any]:
        """Metrics of the Keras model on the test photos."""
        probabilities, labels = self.predictions[Split.TEST]
        thresholds = operating_thresholds(*self.predictions[Split.VALIDATION], self.labels)
        return compute_metrics(probabilities, labels, self.labels, thresholds)

    def confidence_histogram(self) -> dict[str, Any]:
        """Distribution of the confidence on the validation photos, a reference for drift monitoring.

        ``confidence`` holds the deciles as ``edges`` and the number of ``photos`` below, between and above them;
        ``abstained`` is the number of photos below the threshold.
        """
        confidence = self.predictions[Split.VALIDATION][0].max(axis=1, initial=0.0)
        edges = np.unique(np.quantile(confidence, np.arange(1, 10) / 10).round(6)) if len(confidence) else np.zeros(0)
        photos = np.bincount(np.searchsorted(edges, confidence, side="right"), minlength=len(edges) + 1)
        return {
            "confidence": {"edges": edges.tolist(), "photos": photos.tolist()},
            "abstained": int((confidence < self.threshold).sum()),
        }

    def with_out_of_fold(self, probabilities: NDArray[np.float32], labels: NDArray[np.int32]) -> "Evaluation":
        """Use out-of-fold predictions ``[N, C]`` of all photos for the test split, which has no photos."""
        predictions = (probabilities, labels)
        return replace(
            self,
            predictions={**self.predictions, Split.TEST: predictions},
            uncalibrated=predictions,
            scores={**self.scores, Split.TEST: score_predictions(*predictions)},
            cross_validated=True,
        )

    def warnings(self) -> list[str]:
        """Sentences, without full stops, about an accuracy that was not measured well."""
        if self.cross_validated:
            return [
                "no photo could be set aside to test on: the test metrics are those of a cross-validation of the head,"
                " and the exported files were compared on training photos. Add photos"
            ]
        test = self.scores[Split.TEST]
        low, high = wilson_interval(int(np.trace(test.confusion)), test.photos)
        if high - low <= MAX_INTERVAL_WIDTH:
            return []
        return [
            f"the test set is small: accuracy {test.accuracy:.1%} on {test.photos} photos, 95% interval {low:.1%} to"
            f" {high:.1%}. Add photos, or see the cross-validation of --folds 5"
        ]

    def log_lines(self) -> list[str]:
        """Lines for the log: accuracy with its confidence interval, calibration and abstention on the test photos."""
        test = self.scores[Split.TEST]
        low, high = wilson_interval(int(np.trace(test.confusion)), test.photos)
        lines = [
            f"test accuracy {test.accuracy:.4f}, 95% interval {low:.3f} to {high:.3f}, log loss {test.log_loss:.4f}"
            f" on {test.photos} photos"
        ]
        if Split.VALIDATION in self.scores and Split.TEST.value in self.calibration_errors:
            error = self.calibration_errors[Split.TEST.value]
            lines.append(
                f"calibrated with temperature {self.temperature:.2f}: calibration error {error['before']:.3f} ->"
                f" {error['after']:.3f} on the test photos"
            )
        chosen = self.chosen_threshold
        if chosen is not None and chosen["threshold"] is not None:
            test_counts = chosen["test"]
            unknown = test_counts["photos"] - test_counts["answered"]
            lines.append(
                f"predictions below {chosen['threshold']:.3f} are unknown: {unknown} of {test_counts['photos']} on the"
                f" test photos; of the others, {test_counts['right']} are right"
            )
        return lines

    def to_dict(self, gate: GatePredictions, folds: Mapping[str, Any] | None) -> dict[str, Any]:
        """The content of evaluation.json, with the exported variants' metrics on the photos of the gate."""
        test, validation = self.predictions[Split.TEST], self.predictions[Split.VALIDATION]
        thresholds = operating_thresholds(*validation, self.labels)
        drawn = {
            "curves": precision_recall_curves(*test, self.labels),
            "reliability_before": reliability(*self.uncalibrated),
        }
        models = {"keras": self.metrics() | drawn}
        for name, probabilities in gate.by_variant.items():
            models[name] = compute_metrics(probabilities, gate.true_labels, self.labels, thresholds)
            models[name]["abstention"] = vars(count_abstentions(probabilities, gate.true_labels, self.threshold))
        precisions = sorted({*PRECISIONS, *([self.precision] if self.precision is not None else [])})
        return {
            "labels": list(self.labels),
            "temperature": self.temperature,
            "calibration": dict(self.calibration_errors),
            "abstention": {
                "precision": self.precision,
                "threshold": self.threshold,
                "choices": [self._choice(precision) for precision in precisions] if len(validation[1]) else [],
            },
            "models": models,
            "cross_validated": self.cross_validated,
            "folds": folds,
        }


def evaluate_head(
    model: Any,
    head: Any,
    rows: Mapping[Split, RowSet],
    labels: tuple[str, ...],
    precision: float | None,
    memory_limit: int = 2**30,
) -> Evaluation:
    """Calibrate ``head`` in place on the validation rows, then evaluate ``model`` on every split.

    Args:
        model: a Keras model that ends in ``head``: the head itself, or the top of the backbone with it.
        head: the head.
        rows: inputs of ``model``, a set per split.
        labels: class names.
        precision: precision that the confidence threshold must reach; None predicts a class for every photo.
        memory_limit: bytes that the predictions may take in memory; larger ones are in temporary files.
    """
    limit = memory_limit // 4  # validation and test, before and after the calibration
    held_out = {split: rows[split] for split in (Split.VALIDATION, Split.TEST)}
    before = {split: _predict(model, row_set, labels, limit) for split, row_set in held_out.items()}
    temperature = fit_temperature(*before[Split.VALIDATION])
    apply_temperature(head, temperature)
    after = {split: _predict(model, row_set, labels, limit) for split, row_set in held_out.items()}
    errors = {
        split.value: {"before": calibration_error(*before[split]), "after": calibration_error(*after[split])}
        for split in held_out
        if len(rows[split])
    }
    scores = {split: score_predictions(*after[split]) for split in held_out if len(rows[split])}
    if len(rows[Split.TRAIN]):
        scores = {Split.TRAIN: _score(model, rows[Split.TRAIN])} | scores
    return Evaluation(labels, temperature, errors, after, before[Split.TEST], scores, precision)


def _predict(model: Any, rows: RowSet, labels: tuple[str, ...], limit: int) -> LabelledProbabilities:
    if not len(rows):
        return np.zeros((0, len(labels)), np.float32), np.zeros(0, np.int32)
    return predict_probabilities(model, rows, limit), rows.labels


def _score(model: Any, rows: RowSet) -> Scores:
    """Score predictions for at least one row without holding all of them."""
    parts = (score_predictions(values, rows.labels[part]) for part, values in predict_in_chunks(model, rows))
    return reduce(add, parts)


def evaluation_json(evaluation: Mapping[str, Any]) -> str:
    """Serialise the content of evaluation.json."""
    return json.dumps(evaluation, ensure_ascii=False) + "\n"
