"""Evaluate the trained classifier: test photos, cross-validation where they are few, and the majority baseline."""

from dataclasses import dataclass
from typing import Any

from train_job.data.example import Split
from train_job.evaluation.cross_validation import DEFAULT_FOLDS, CrossValidation, cross_validate
from train_job.evaluation.evaluate import Evaluation, evaluate_head
from train_job.evaluation.majority_baseline import FEW_TEST_PHOTOS, MajorityBaseline, compare_with_majority
from train_job.head.compiled_loop import ResourceLimits
from train_job.head.recipe import recipe_from_options
from train_job.pipeline.prepare_data import JobContext, PreparedData
from transferlite.errors import InputError


@dataclass(frozen=True)
class EvaluatedClassifier:
    """Results of the evaluation.

    Attributes:
        evaluation: predictions and scores on each split; those on the test split are the cross-validation's if there
            are no test photos.
        cross_validation: out-of-fold predictions; None if no cross-validation was needed.
        baseline: comparison with always predicting the most frequent class.
        warnings: sentences for the log and the report.
    """

    evaluation: Evaluation
    cross_validation: CrossValidation | None
    baseline: MajorityBaseline
    warnings: tuple[str, ...]


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
    evaluation = evaluate_head(model, head, rows, labels, options.precision)
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
    return EvaluatedClassifier(evaluation, cross_validation, baseline, tuple(warnings))


def _combined_baseline(
    data: PreparedData, evaluation: Evaluation, cross_validation: CrossValidation
) -> MajorityBaseline:
    """Compare all photos with the majority: test photos by the version's predictions, the others out of fold."""
    predicted = cross_validation.probabilities.argmax(axis=1)
    tests = data.indices(Split.TEST)
    if tests:
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
