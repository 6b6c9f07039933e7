"""How good a trained model is, calibrated: what goes into ``training/evaluation.json``, the manifest and the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.gate.compare_variants import GatePredictions
from train_job.data.dataset import Split
from train_job.evaluation.abstention import PRECISIONS, choose_threshold, count_abstentions
from train_job.evaluation.confidence_calibration import (
    apply_temperature,
    calibration_error,
    fit_temperature,
    reliability,
)
from train_job.evaluation.metrics import compute_metrics, curves, operating_thresholds
from train_job.head.fit import predict_rows
from train_job.head.row_sets import RowSet
from train_job.scores import Scores, score_predictions

EVALUATION_JSON = "training/evaluation.json"

LabelledProbabilities = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Probabilities ``[N, C]`` and true labels ``[N]``."""


@dataclass(frozen=True)
class Evaluation:
    """A trained head's answers on every split, after calibration.

    Attributes:
        labels: the class names.
        temperature: what calibrated the head, fitted on the validation photos; 1 without any.
        errors: the calibration error ``before`` and ``after``, by split.
        answers: probabilities and labels of the validation and the test photos.
        uncalibrated: those of the test photos before.
        scores: of each split that has photos.
        precision: the share of answers that the user wants right; None answers every photo.
    """

    labels: tuple[str, ...]
    temperature: float
    errors: Mapping[str, Mapping[str, float]]
    answers: Mapping[Split, LabelledProbabilities]
    uncalibrated: LabelledProbabilities
    scores: Mapping[Split, Scores]
    precision: float | None

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The threshold for the precision that was asked for, and what it does."""
        return None if self.precision is None else self._choice(self.precision)

    @property
    def threshold(self) -> float:
        """The probability below which the model answers ``unknown``; 0 where none reaches the precision."""
        return (self.chosen or {}).get("threshold") or 0.0

    def _choice(self, precision: float) -> dict[str, Any]:
        return choose_threshold(precision, self.answers[Split.VALIDATION], self.answers[Split.TEST])

    def measures(self) -> dict[str, Any]:
        """Of the Keras model on the test photos."""
        probabilities, labels = self.answers[Split.TEST]
        thresholds = operating_thresholds(*self.answers[Split.VALIDATION], self.labels)
        return compute_metrics(probabilities, labels, self.labels, thresholds)

    def confidences(self) -> dict[str, Any]:
        """How sure the model was of the validation photos, to compare later photos with.

        Between the deciles' ``edges`` so many ``photos`` each, the first bin below the first edge, and how many of all
        it ``abstained`` from.
        """
        best = self.answers[Split.VALIDATION][0].max(axis=1, initial=0.0)
        edges = np.unique(np.quantile(best, np.arange(1, 10) / 10).round(6)) if len(best) else np.zeros(0)
        photos = np.bincount(np.searchsorted(edges, best, side="right"), minlength=len(edges) + 1)
        return {
            "confidence": {"edges": edges.tolist(), "photos": photos.tolist()},
            "abstained": int((best < self.threshold).sum()),
        }

    def to_dict(self, gate: GatePredictions, folds: Mapping[str, Any] | None) -> dict[str, Any]:
        """Everything, with the exported variants' own answers on the photos of the gate."""
        test, validation = self.answers[Split.TEST], self.answers[Split.VALIDATION]
        thresholds = operating_thresholds(*validation, self.labels)
        drawn = {"curves": curves(*test, self.labels), "reliability_before": reliability(*self.uncalibrated)}
        models = {"keras": self.measures() | drawn}
        for name, probabilities in gate.variants.items():
            models[name] = compute_metrics(probabilities, gate.labels, self.labels, thresholds)
            models[name]["abstention"] = vars(count_abstentions(probabilities, gate.labels, self.threshold))
        wanted = sorted({*PRECISIONS, *([self.precision] if self.precision is not None else [])})
        return {
            "labels": list(self.labels),
            "temperature": self.temperature,
            "calibration": dict(self.errors),
            "abstention": {
                "precision": self.precision,
                "threshold": self.threshold,
                "choices": [self._choice(one) for one in wanted] if len(validation[1]) else [],
            },
            "models": models,
            "folds": folds,
        }


def evaluate_head(
    model: Any, head: Any, rows: Mapping[Split, RowSet], labels: tuple[str, ...], precision: float | None
) -> Evaluation:
    """Calibrate ``head`` in place on the validation rows, and evaluate ``model``, which ends in it, on every split.

    ``rows`` are those that ``model`` takes, one set per split.
    """
    watched = {split: rows[split] for split in (Split.VALIDATION, Split.TEST)}
    before = {split: _answers(model, one, labels) for split, one in watched.items()}
    temperature = fit_temperature(*before[Split.VALIDATION])
    apply_temperature(head, temperature)
    after = {split: _answers(model, one, labels) for split, one in watched.items()}
    errors = {
        split.value: {"before": calibration_error(*before[split]), "after": calibration_error(*after[split])}
        for split in watched
        if len(rows[split])
    }
    scores = {split: score_predictions(*one) for split, one in after.items() if len(one[1])}
    if len(rows[Split.TRAIN]):
        scores = {Split.TRAIN: score_predictions(*_answers(model, rows[Split.TRAIN], labels))} | scores
    return Evaluation(labels, temperature, errors, after, before[Split.TEST], scores, precision)


def _answers(model: Any, rows: RowSet, labels: tuple[str, ...]) -> LabelledProbabilities:
    if not len(rows):
        return np.zeros((0, len(labels)), np.float32), np.zeros(0, np.int32)
    return predict_rows(model, rows), rows.labels


def evaluation_json(evaluation: Mapping[str, Any]) -> str:
    """The record's text."""
    return json.dumps(evaluation, ensure_ascii=False) + "\n"
