"""The recipe of a fit, and the metrics of an epoch."""

from dataclasses import dataclass
from typing import Any

from train_job.head.optimizer import build_optimizer
from train_job.options import TrainOptions

FINE_TUNE_MOMENTUM = 0.9


@dataclass(frozen=True)
class Recipe:
    """Settings of a fit: Keras's own optimizers, losses and schedules. TrainOptions holds the defaults.

    Attributes:
        epochs: maximum number of epochs.
        steps_per_epoch: steps per epoch; None is one pass over the rows.
        batch_size: rows per step.
        optimizer: name of any Keras optimizer.
        learning_rate: initial learning rate; None is the optimizer's default.
        schedule: ``constant``, or ``cosine`` decay to zero over all steps.
        momentum: momentum of ``sgd``.
        label_smoothing: 0 to 1, as in Keras's CategoricalCrossentropy.
        class_weights: ``none``, or ``balanced`` as in scikit-learn: rows / (classes x rows of the class).
        early_stopping: epochs without a lower validation loss before stopping; the best epoch's weights are kept.
        keep_best: keep the weights of the epoch with the lowest validation loss.
        seed: seed of the order of rows.
    """

    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    optimizer: str
    learning_rate: float | None
    schedule: str
    momentum: float
    label_smoothing: float
    class_weights: str
    early_stopping: int | None
    keep_best: bool
    seed: int

    def __post_init__(self) -> None:
        self.new_optimizer(1)

    @property
    def needs_validation(self) -> bool:
        """Whether the validation loss decides which epoch's weights are kept."""
        return self.keep_best or self.early_stopping is not None

    def new_optimizer(self, steps: int) -> Any:
        """Build the Keras optimizer for a fit of ``steps`` steps. Raises InputError as :func:`build_optimizer`."""
        return build_optimizer(self.optimizer, self.learning_rate, self.momentum, self.schedule, steps)

    def steps(self, rows: int) -> int:
        """Steps per epoch for this number of rows."""
        return self.steps_per_epoch or -(-rows // self.batch_size)


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch: mean loss and accuracy over its steps, and on the validation rows after it."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None

    def summary(self) -> str:
        """Format the metrics for the progress bar."""
        metrics = f"loss {self.loss:.4f}, accuracy {self.accuracy:.4f}"
        if self.val_loss is None:
            return metrics
        return f"{metrics}, val_loss {self.val_loss:.4f}, val_accuracy {self.val_accuracy:.4f}"


def recipe_from_options(options: TrainOptions) -> Recipe:
    """The recipe that a job's options describe."""
    return Recipe(
        epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        momentum=0.0,
        label_smoothing=options.label_smoothing,
        class_weights=options.class_weights,
        early_stopping=options.early_stopping,
        keep_best=options.keep_best,
        seed=options.seed,
    )


def fine_tune_recipe_from_options(options: TrainOptions, keep_best: bool) -> Recipe:
    """The recipe of a job's fine-tuning: plain SGD with momentum, without the head's schedule and weighting."""
    return Recipe(
        epochs=options.fine_tune_epochs,
        steps_per_epoch=None,
        batch_size=options.batch_size,
        optimizer="sgd",
        learning_rate=options.fine_tune_learning_rate,
        schedule="constant",
        momentum=FINE_TUNE_MOMENTUM,
        label_smoothing=0.0,
        class_weights="none",
        early_stopping=None,
        keep_best=keep_best,
        seed=options.seed,
    )
