"""The optimizer of a fit, with its learning-rate schedule."""

from typing import Any

import keras

from transferlite.errors import InputError


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
            rate = float(optimizer.learning_rate)
            decayed = keras.optimizers.schedules.CosineDecay(rate, steps)
            optimizer = type(optimizer)(**settings | {"learning_rate": decayed})
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"unknown optimizer {name!r}", hint="for example rmsprop, adam, sgd") from error
    return optimizer
