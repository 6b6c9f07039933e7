"""The optimizer of a fit, with its learning-rate schedule."""

import math
from typing import Any

import keras

from transferlite.errors import InputError


class CosineSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Cosine decay to 0, as Keras's CosineDecay, over a number of steps that can change after compilation.

    So a program is compiled while the number of training photos is still unknown.

    Args:
        rate: learning rate at step 0.
        steps: steps until it is 0.
    """

    def __init__(self, rate: float, steps: int) -> None:
        self.rate = rate
        self._steps = keras.Variable(float(steps), trainable=False, name="decay_steps")

    def set_steps(self, steps: int) -> None:
        """Set the number of steps until the learning rate is 0."""
        self._steps.assign(float(steps))

    def __call__(self, step: Any) -> Any:
        """The learning rate at ``step``."""
        done = keras.ops.minimum(keras.ops.cast(step, "float32") / self._steps, 1.0)
        return self.rate * 0.5 * (1.0 + keras.ops.cos(math.pi * done))


def set_total_steps(optimizer: Any, steps: int) -> None:
    """Set the length of the optimizer's schedule, if it has one."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, CosineSchedule):
        schedule.set_steps(steps)


def build_optimizer(name: str, learning_rate: float | None, momentum: float, schedule: str, steps: int) -> Any:
    """Build the Keras optimizer for a fit of ``steps`` steps.

    Args:
        name: Keras name of the optimizer.
        learning_rate: None for the optimizer's default.
        momentum: 0 for the optimizer's default.
        schedule: ``constant``, or ``cosine``: decay to 0 over ``steps``.
        steps: number of steps.

    Raises:
        InputError: unknown name, or the optimizer does not take a setting.
    """
    settings: dict[str, Any] = {"momentum": momentum} if momentum else {}
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    try:
        optimizer = keras.optimizers.get({"class_name": name, "config": settings})
        if schedule == "cosine":
            decayed = CosineSchedule(float(optimizer.learning_rate), steps)
            optimizer = type(optimizer)(**settings | {"learning_rate": decayed})
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"unknown optimizer {name!r}", hint="for example rmsprop, adam, sgd") from error
    return optimizer
