"""Recipes for tests."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from train_job.options import TrainOptions

if TYPE_CHECKING:
    from train_job.head.recipe import Recipe


def make_recipe(momentum: float = 0.0, **settings: Any) -> "Recipe":
    """Build the recipe of a job with default options, except for ``settings``."""
    from train_job.head.recipe import recipe_from_options

    return replace(recipe_from_options(TrainOptions(images="", registry="", **settings)), momentum=momentum)
