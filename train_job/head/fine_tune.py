"""Fine-tuning: train the top of the backbone together with the head, on cached activations at the cut.

Source: Keras's example, https://keras.io/api/applications/#usage-examples-for-image-classification-models
"""

from collections.abc import Callable
from typing import Any

from train_job.backbones.fine_tune_cut import Cut, top_model
from train_job.head.checkpoint import Checkpoint
from train_job.head.compiled_loop import ResourceLimits
from train_job.head.finished_fit import FitResult
from train_job.head.fit import fit_head, predict_probabilities
from train_job.head.recipe import Epoch, Recipe
from train_job.head.row_sets import RowSet
from train_job.scores import score_predictions

ROWS_PER_CALL = 2_000
"""Limit of one call of a program, lower than for the head alone because a step takes longer."""


def fine_tune(
    backbone: Any,
    cut: Cut,
    head: Any,
    train: RowSet,
    validation: RowSet,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None],
    *,
    limits: ResourceLimits,
    checkpoint: Checkpoint | None,
    stop: Callable[[], bool],
) -> tuple[Any, FitResult | None]:
    """Fine-tune ``backbone`` above the cut and ``head`` in place, unless that does not lower the validation loss.

    Returns the model from flat activations ``[N, D]`` to probabilities ``[N, C]``, and the result of the fit; None if
    the weights from before fine-tuning were kept.
    """
    top = top_model(backbone, cut, head)
    frozen = top.get_weights()
    before = (
        score_predictions(predict_probabilities(top, validation), validation.labels).log_loss
        if len(validation)
        else None
    )
    fitted = fit_head(top, train, validation, recipe, on_epoch, limits=limits, checkpoint=checkpoint, stop=stop)
    if (
        before is not None
        and score_predictions(predict_probabilities(top, validation), validation.labels).log_loss >= before
    ):
        top.set_weights(frozen)
        return top, None
    return top, fitted
