"""How a head learns, and what each epoch measured."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train_job.options import TrainOptions
from transferlite.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Keras's own optimizers, losses and schedules; the defaults are the walk-through's.

    Attributes:
        epochs: at most.
        steps_per_epoch: None is one pass over the rows.
        batch_size: rows a step.
        optimizer: any Keras optimizer's name.
        learning_rate: None is the optimizer's default.
        schedule: ``constant``, or ``cosine`` down to zero over all steps.
        momentum: of ``sgd``.
        label_smoothing: 0 to 1, as Keras's CategoricalCrossentropy takes it.
        class_weights: ``none``, or ``balanced``: rows / (classes x rows of the class), as scikit-learn has it.
        early_stopping: epochs without a better validation loss after which to stop, with the best epoch's weights.
        keep_best: end with the weights of the epoch of the best validation loss.
        seed: of the order of rows.
    """

    epochs: int = 100
    steps_per_epoch: int | None = None
    batch_size: int = 50
    optimizer: str = "rmsprop"
    learning_rate: float | None = None
    schedule: str = "constant"
    momentum: float = 0.0
    label_smoothing: float = 0.0
    class_weights: str = "none"
    early_stopping: int | None = None
    keep_best: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.new_optimizer(1)

    @property
    def needs_validation(self) -> bool:
        """Whether the validation rows decide anything."""
        return self.keep_best or self.early_stopping is not None

    def new_optimizer(self, steps: int) -> Any:
        """A Keras optimizer as asked for, for ``steps`` steps. Raises InputError when Keras has none of that name."""
        settings: dict[str, Any] = {"momentum": self.momentum} if self.momentum else {}
        if self.learning_rate is not None:
            settings["learning_rate"] = self.learning_rate
        try:
            optimizer = keras.optimizers.get({"class_name": self.optimizer, "config": settings})
            if self.schedule == "cosine":
                rate = float(optimizer.learning_rate)
                decayed = keras.optimizers.schedules.CosineDecay(rate, steps)
                optimizer = type(optimizer)(**settings | {"learning_rate": decayed})
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"unknown optimizer {self.optimizer!r}", hint="for example rmsprop, adam, sgd") from error
        return optimizer

    def steps(self, rows: int) -> int:
        """Steps an epoch for that many rows."""
        return self.steps_per_epoch or -(-rows // self.batch_size)

    def weights_of(self, labels: NDArray[np.int32], classes: int) -> NDArray[np.float32]:
        """What a row of each class counts, ``[classes]``."""
        if self.class_weights == "none":
            return np.ones(classes, np.float32)
        counts = np.bincount(labels, minlength=classes)
        return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured: mean loss and accuracy over its steps, and over the validation rows at its end."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None


def recipe_of(options: TrainOptions) -> Recipe:
    """The recipe that a job's options describe."""
    return Recipe(
        epochs=options.epochs,
        steps_per_epoch=options.steps_per_epoch,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        label_smoothing=options.label_smoothing,
        class_weights=options.class_weights,
        early_stopping=options.early_stopping,
        keep_best=options.keep_best,
        seed=options.seed,
    )
