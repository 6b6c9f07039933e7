"""The second stage: train the top of the base together with the head, on cached activations at the cut.

Source: Keras's own example, https://keras.io/api/applications/#usage-examples-for-image-classification-models
"""

from collections.abc import Callable
from typing import Any

from train_job.backbones.fine_tune_cut import Cut, top_model
from train_job.head.checkpoint import Checkpoint
from train_job.head.compiled_loop import ResourceLimits
from train_job.head.fit import Fitted, fit_head, predict_rows
from train_job.head.recipe import Epoch, Recipe
from train_job.head.row_sets import RowSet
from train_job.scores import score_predictions

CHUNK_ROWS = 2_000
MOMENTUM = 0.9


def fine_tune(
    base: Any,
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
) -> tuple[Any, Fitted | None]:
    """Train ``base`` above the cut, and ``head``, in place, and keep the epoch of the best validation loss.

    Where no epoch is better than the frozen base, that is kept. Returns the model from flat activations to
    probabilities, and what was fitted, None if nothing was kept.
    """
    top = top_model(base, cut, head)
    frozen = top.get_weights()
    before = score_predictions(predict_rows(top, validation), validation.labels).log_loss if len(validation) else None
    fitted = fit_head(top, train, validation, recipe, on_epoch, limits=limits, checkpoint=checkpoint, stop=stop)
    if before is not None and score_predictions(predict_rows(top, validation), validation.labels).log_loss >= before:
        top.set_weights(frozen)
        return top, None
    return top, fitted
