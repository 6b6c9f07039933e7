"""Evaluate the trained classifier: test photos, cross-validation where they are few, and the majority baseline."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train_job.data.example import Split
from train_job.evaluation.cross_validation import DEFAULT_FOLDS, CrossValidation, cross_validate
from train_job.evaluation.evaluate import Evaluation, evaluate_head
from train_job.evaluation.fit_familiarity import count_rejected, fit_familiarity
from train_job.evaluation.majority_baseline import FEW_TEST_PHOTOS, MajorityBaseline, compare_with_majority
from train_job.head.compiled_loop import ResourceLimits
from train_job.head.fit import predict_probabilities
from train_job.head.recipe import recipe_from_options
from train_job.head.row_sets import RowSet
from train_job.options import TrainOptions
from train_job.pipeline.prepare_data import JobContext, PreparedData
from transferlite.errors import InputError
from transferlite.inference.prediction import NEGATIVE_CLASS
from transferlite.predict.familiarity import Familiarity


@dataclass(frozen=True)
class EvaluatedClassifier:
    """Results of the evaluation.

    Attributes:
        evaluation: predictions and scores on each split; those on the test split are the cross-validation's if there
            are no test photos.
        cross_validation: out-of-fold predictions; None if no cross-validation was needed.
        baseline: comparison with always predicting the most frequent class.
        familiarity: score for ``--reject-unlike``; None without that option.
        familiarity_effect: what its threshold rejects, for evaluation.json; None without that option.
        warnings: sentences for the log and the report.
    """

    evaluation: Evaluation
    cross_validation: CrossValidation | None
    baseline: MajorityBaseline
    warnings: tuple[str, ...]
    familiarity: Familiarity | None = None
    familiarity_effect: Mapping[str, Any] | None = None


def check_options(options: TrainOptions, data: PreparedData) -> None:
    """Raise InputError if the data lack the validation photos or the negative class that the options need."""
    for flag, value in (("--precision", options.precision), ("--reject-unlike", options.reject_unlike)):
        if value is not None and not len(data.indices(Split.VALIDATION)):
            raise InputError(f"{flag} needs validation photos", hint="give them a share: --split 80/10/10")
    if options.negative_class not in {NEGATIVE_CLASS, *data.dataset.labels}:
        hint = f"the classes are {', '.join(data.dataset.labels)}"
        raise InputError(f"there is no class {options.negative_class!r}", where="--negative-class", hint=hint)


def evaluate_classifier(job: JobContext, data: PreparedData, model: Any, head: Any, output: int) -> EvaluatedClassifier:
    """Calibrate ``head`` in place, and evaluate ``model`` on every split.

    The job cross-validates with ``--folds``, without test photos, and if a few test photos do not show that the version
    is better than the majority baseline.

    Args:
        job: the job.
        data: photos with their splits and feature rows.
        model: a Keras model that ends in ``head``.
        head: the head.
        output: index of the backbone's output that ``model`` takes.

    Raises:
        InputError: there are no test photos, and no class has two photos to cross-validate with.
        StoppedError: the job was stopped.
    """
    options, labels = job.options, data.dataset.labels
    rows = {split: data.photo_row_set(split, output) for split in Split}
    evaluation = evaluate_head(model, head, rows, labels, options.precision, options.memory_limit)
    probabilities, truth = evaluation.predictions[Split.TEST]
    baseline = compare_with_majority(probabilities.argmax(axis=1), truth, labels)
    is_unclear = not baseline.is_better and len(truth) < FEW_TEST_PHOTOS and options.promote == "auto"
    cross_validation = None
    if options.folds or is_unclear or not len(truth):
        cross_validation = _cross_validate(job, data)
    if not len(truth):
        if cross_validation is None:
            raise InputError("no photo is left to test on, and no class has two photos", hint="add photos")
        evaluation = evaluation.with_out_of_fold(cross_validation.probabilities, cross_validation.labels)
    if cross_validation is not None and not baseline.is_better and len(truth) < FEW_TEST_PHOTOS:
        baseline = _combined_baseline(data, evaluation, cross_validation)
    for line in evaluation.log_lines():
        job.report.line(line)
    warnings = evaluation.warnings()
    for warning in warnings:
        job.report.warning(warning)
    evaluated = EvaluatedClassifier(evaluation, cross_validation, baseline, tuple(warnings))
    return evaluated if options.reject_unlike is None else _with_familiarity(job, data, model, output, evaluated)


def _with_familiarity(
    job: JobContext, data: PreparedData, model: Any, output: int, evaluated: EvaluatedClassifier
) -> EvaluatedClassifier:
    """Fit the familiarity score to the feature rows of the backbone that will be published."""
    rows = {split: _final_rows(data.photo_row_set(split, output), model, output) for split in Split}
    predictions, rejected = evaluated.evaluation.predictions, float(job.options.reject_unlike or 0)
    familiarity = fit_familiarity(rows[Split.TRAIN], rows[Split.VALIDATION], predictions[Split.VALIDATION][0], rejected)
    effect: dict[str, Any] = {"rejected": rejected, "threshold": familiarity.threshold}
    for split in (Split.VALIDATION, Split.TEST):
        probabilities, labels = predictions[split]
        if len(rows[split]) == len(labels) > 0:  # not if the test predictions are cross-validated
            counts = count_rejected(familiarity, rows[split].astype(np.float32), probabilities, labels)
            effect |= {split.value: asdict(counts)}
            job.report.line(f"unlike the training photos: {counts.summary()} {split.value} photos")
    return replace(evaluated, familiarity=familiarity, familiarity_effect=effect)


def _final_rows(rows: RowSet, model: Any, output: int) -> NDArray[Any]:
    """The feature rows ``[N, D]``, after fine-tuning those of the fine-tuned backbone."""
    if not output or not len(rows):
        return rows.take(slice(None))
    return predict_probabilities(keras.Model(model.input, model.get_layer("pool").output), rows)


def _combined_baseline(
    data: PreparedData, evaluation: Evaluation, cross_validation: CrossValidation
) -> MajorityBaseline:
    """Compare all photos with the majority: test photos by the version's predictions, the others out of fold."""
    predicted = cross_validation.probabilities.argmax(axis=1)
    tests = data.indices(Split.TEST)
    if len(tests):
        predicted[tests] = evaluation.predictions[Split.TEST][0].argmax(axis=1)
    out_of_fold = len(predicted) - len(tests)
    return compare_with_majority(predicted, cross_validation.labels, data.dataset.labels, out_of_fold)


def _cross_validate(job: JobContext, data: PreparedData) -> CrossValidation | None:
    options = job.options
    folds, recipe = options.folds or DEFAULT_FOLDS, recipe_from_options(options)
    with job.report.progress("folds", recipe.epochs * folds) as advance:
        result = cross_validate(
            data.full_row_set(),
            data.duplicate_groups(),
            len(data.dataset.labels),
            recipe,
            options.hidden_units,
            folds,
            ResourceLimits(options.memory_limit),
            advance,
            job.stop,
        )
    if result is None:
        job.report.warning("no cross-validation: no class has two photos")
    else:
        job.report.line(result.log_line())
    return result
