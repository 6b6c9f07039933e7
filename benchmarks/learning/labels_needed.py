"""How many labels active learning saves: accuracy on flowers against labels, for three ways to choose what to label.

Starts with 50 random photos. Every round trains a logistic regression on the rows of EfficientNet-Lite0 of the labelled
photos (128 principal components), and chooses 25 more. Needs the photos of ``$TRANSFERLITE_TEST_DATA``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.feature_rows import Rows, class_folders, test_data
from benchmarks.helpers.processes import print_table
from train_job.quality.label_issues import INVERSE_REGULARISATION

FIRST, STEP, SEEDS = 50, 25, 5
_COMPONENTS = 128
_CANDIDATES = 4
"""Diverse photos are chosen from those with the smallest margin, this multiple of the step."""

Indices = NDArray[np.int64]
Choice = Callable[[Rows, Rows, Indices, np.random.Generator], Indices]
"""Chooses photos from probabilities ``[N, C]`` and rows ``[N, D]`` of the unlabelled photos, whose indices it gets."""


def at_random(_probabilities: Rows, _rows: Rows, unlabelled: Indices, random: np.random.Generator) -> Indices:
    """Choose photos at random."""
    return random.choice(unlabelled, min(STEP, len(unlabelled)), replace=False)


def by_margin(probabilities: Rows, _rows: Rows, unlabelled: Indices, _random: np.random.Generator) -> Indices:
    """Choose the photos with the smallest difference between the two best probabilities."""
    return unlabelled[np.argsort(margins(probabilities), kind="stable")[:STEP]]


def by_margin_and_diversity(
    probabilities: Rows, rows: Rows, unlabelled: Indices, _random: np.random.Generator
) -> Indices:
    """Choose photos far from each other (k-center) among those with a small margin."""
    candidates = np.argsort(margins(probabilities), kind="stable")[: _CANDIDATES * STEP]
    points = rows[candidates]
    chosen = [0]
    distances = np.square(points - points[0]).sum(axis=1)
    while len(chosen) < min(STEP, len(candidates)):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.square(points - points[chosen[-1]]).sum(axis=1))
    return unlabelled[candidates[chosen]]


CHOICES: Mapping[str, Choice] = {
    "random": at_random,
    "margin": by_margin,
    "margin + diversity": by_margin_and_diversity,
}


def margins(probabilities: Rows) -> Rows:
    """Differences between the two best probabilities ``[N]``."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def train(rows: Rows, labels: Indices) -> Any:
    """Fit a logistic regression, as the search for label issues does."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=50).fit(rows, labels)


def accuracies(
    choose: Choice, train_set: tuple[Rows, Indices], test_set: tuple[Rows, Indices], seed: int
) -> list[float]:
    """Accuracy on the test photos with 50, 75, ... labels, until all photos are labelled."""
    rows, labels = train_set
    random = np.random.default_rng(seed)
    labelled = random.permutation(len(rows))[:FIRST]
    found = []
    while True:
        model = train(rows[labelled], labels[labelled])
        found.append(float(model.score(*test_set)))
        unlabelled = np.setdiff1d(np.arange(len(rows)), labelled)
        if not len(unlabelled):
            return found
        chosen = choose(model.predict_proba(rows[unlabelled]), rows[unlabelled], unlabelled, random)
        labelled = np.concatenate([labelled, chosen])


@click.command()
@click.option("--quick", is_flag=True, help="One seed.")
def main(quick: bool) -> None:
    """Print the labels that each choice needs to reach the accuracy of all labels, and the accuracy on the way."""
    from threadpoolctl import threadpool_limits

    sets = []
    for name in ("train", "test"):
        rows, labels, _ = class_folders(test_data() / "flowers" / name)
        sets.append((rows / np.linalg.norm(rows, axis=1, keepdims=True), labels))
    centre = sets[0][0].mean(axis=0)
    basis = np.linalg.svd(sets[0][0] - centre, full_matrices=False)[2][:_COMPONENTS].T
    sets = [((rows - centre) @ basis, labels) for rows, labels in sets]
    seeds = 1 if quick else SEEDS
    total = len(sets[0][0])
    lines = []
    with threadpool_limits(1):
        target = float(train(*sets[0]).score(*sets[1]))
        for name, choose in CHOICES.items():
            curves = [accuracies(choose, sets[0], sets[1], seed) for seed in range(seeds)]
            needed = [FIRST + STEP * next(i for i, value in enumerate(curve) if value >= target) for curve in curves]
            steps = [np.mean([curve[(count - FIRST) // STEP] for curve in curves]) for count in (100, 200, 300, 400)]
            share = f"{np.mean(needed) / total:.0%}"
            lines.append([name, ", ".join(map(str, needed)), share, *(f"{value:.3f}" for value in steps)])
    header = ("what to label", f"labels for {target:.3f}, each seed", f"of {total}", "100", "200", "300", "400 labels")
    print_table("python -m benchmarks.learning.labels_needed", header, lines)


if __name__ == "__main__":
    main()
