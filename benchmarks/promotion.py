"""How often the promotion check refuses a version that is as good, and one that is worse; and what other rules do.

A second table shows how often the floor lets a first version through: see :mod:`benchmarks.sides.promotion_floor`.

Test sets are simulated with two versions whose true recall is known. The rule in use is the code of
``train_job.evaluation.mcnemar_test``, with the default tolerance of 2 points. Every rule judges the same test sets.
"""

from collections.abc import Iterator

import click
import numpy as np

from benchmarks.helpers.processes import print_table
from benchmarks.sides.promotion_floor import FLOOR_SETTINGS, share_promoted
from benchmarks.sides.promotion_models import Setting, trials
from benchmarks.sides.promotion_rules import RULES

MOST_REFUSED = 0.06
LEAST_FOUND = 0.8

SETTINGS = (
    Setting("equal, 2 classes x 100", 2, 100, bound=MOST_REFUSED),
    Setting("equal, 5 x 50", 5, 50, bound=MOST_REFUSED),
    Setting("equal, 20 x 20", 20, 20, bound=MOST_REFUSED),
    Setting("equal, 100 x 10", 100, 10, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, accuracy 0.80, 10 % discordant", 5, 50, 0.8, 0.1, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, accuracy 0.99, 1.5 % discordant", 5, 50, 0.99, 0.015, bound=MOST_REFUSED),
    Setting("equal, 5 x 100, accuracy 0.80, 20 % discordant", 5, 100, 0.8, 0.2, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, twice as confident", 5, 50, power=2.0, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, half as confident", 5, 50, power=0.5, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, one confident mistake", 5, 50, mistake=True, bound=MOST_REFUSED),
    Setting("equal, 5 x 50, int8 probabilities", 5, 50, steps=256, bound=MOST_REFUSED),
    Setting("20 points worse in one class, 5 x 50", 5, 50, drop_in_one=0.2, bound=LEAST_FOUND),
    Setting("5 points worse in all, 5 x 50", 5, 50, drop=0.05, bound=LEAST_FOUND),
    Setting("40 points worse in one class, 20 x 20", 20, 20, drop_in_one=0.4, bound=LEAST_FOUND),
    Setting("80 points worse in one class, 100 x 10", 100, 10, drop_in_one=0.8, bound=LEAST_FOUND),
    Setting("5 points worse in all, half as confident, 5 x 50", 5, 50, drop=0.05, power=0.5, bound=LEAST_FOUND),
    Setting("1 point worse in all (tolerated), 5 x 200", 5, 200, drop=0.01),
    Setting("2 points worse in all (the tolerance), 5 x 200", 5, 200, drop=0.02),
)
"""What is simulated; the bound holds for the rule in use, and a test holds it."""


def shares(setting: Setting, count: int, seed: int) -> dict[str, float]:
    """The share of test sets that each rule refuses, by the rule's name."""
    drawn = trials(setting, count, np.random.default_rng(seed))
    return {name: float(rule(drawn).mean()) for name, rule in RULES.items()}


def rows(count: int, seed: int) -> Iterator[list[str]]:
    """The lines of the table."""
    for setting in SETTINGS:
        found = shares(setting, count, seed)
        bound = "" if setting.bound is None else f"{'<=' if setting.equal else '>='} {setting.bound:.0%}"
        yield [setting.name, bound, *(f"{share:.1%}" for share in found.values())]


def floor_rows(count: int, seed: int) -> Iterator[list[str]]:
    """The lines of the floor's table."""
    for setting in FLOOR_SETTINGS:
        promoted = share_promoted(setting, count, np.random.default_rng(seed))
        bound = f"{'<=' if setting.at_most else '>='} {setting.bound:.0%}"
        accuracies = [f"{accuracy:.2f}" for accuracy in (setting.accuracy, setting.constant_accuracy)]
        yield [setting.name, *accuracies, bound, f"{promoted:.1%}"]


@click.command()
@click.option("--simulations", default=4000, show_default=True, type=click.IntRange(1), help="Test sets of each row.")
@click.option("--seed", default=0, show_default=True, help="Of the random numbers.")
@click.option("--quick", is_flag=True, help="400 test sets of each row.")
def main(simulations: int, seed: int, quick: bool) -> None:
    """Print the share of simulated versions that each rule refuses, and that the floor lets through."""
    count = 400 if quick else simulations
    header = ("new version, test photos", "wanted", *RULES)
    print_table("python -m benchmarks.promotion", header, rows(count, seed))
    floor_header = ("first version, photos", "accuracy", "constant", "wanted", "promoted")
    print_table("python -m benchmarks.promotion", floor_header, floor_rows(count, seed))
    low, high = (100 * (share * (1 - share) / count) ** 0.5 for share in (0.05, 0.5))
    click.echo(f"{count} simulations of each row; standard error {low:.1f} points at 5 %, {high:.1f} at 50 %")


if __name__ == "__main__":
    main()
