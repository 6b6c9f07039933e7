"""Training the head compared with scikit-learn on the same feature rows: seconds, and accuracy on held-out rows.

MLPClassifier is the same network with the same optimizer, batch size and epochs. LogisticRegression is a head without a
hidden layer. Each round draws new rows, and the sides take turns in one process.
"""

import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.processes import print_table

WIDTH, HIDDEN, CLASSES = 1280, 1024, 10
_SPREAD = 3.0
"""Standard deviation of rows around their class's centre: large enough that classes overlap."""

Rows = NDArray[np.float16]
Labels = NDArray[np.int32]
Side = Callable[[Rows, Labels, Rows], NDArray[np.int64]]


def separable(count: int, seed: int) -> tuple[Rows, Labels]:
    """Draw rows ``[count, WIDTH]`` around the centre of their class, clipped at zero like features, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    centres = np.random.default_rng(0).normal(0, 0.5, (CLASSES, WIDTH)).astype(np.float32)
    rows = centres[labels] + _SPREAD * random.standard_normal((count, WIDTH), np.float32)
    return np.maximum(rows, 0).astype(np.float16), labels


def ours(epochs: int, batch: int) -> Side:
    """``fit_head``, including compilation."""
    import keras

    from train_job.head.fit import fit_head, predict_probabilities
    from train_job.head.model import head_model
    from train_job.head.recipe import recipe_from_options
    from train_job.head.row_sets import RowSet
    from train_job.options import TrainOptions

    def side(rows: Rows, labels: Labels, held_out: Rows) -> NDArray[np.int64]:
        keras.utils.set_random_seed(0)
        head = head_model(WIDTH, HIDDEN, CLASSES)
        train = RowSet(rows, np.arange(len(rows)), labels)
        no_validation = RowSet(rows, train.ids[:0], labels[:0])
        options = TrainOptions(images="", registry="", epochs=epochs, batch_size=batch, optimizer="adam")
        fit_head(head, train, no_validation, recipe_from_options(options), lambda _: None)
        predictions = predict_probabilities(
            head, RowSet(held_out, np.arange(len(held_out)), np.zeros(len(held_out), np.int32))
        )
        return np.asarray(predictions.argmax(axis=1), np.int64)

    return side


def scikit_learns(model: Any) -> Side:
    """A classifier of scikit-learn, on the rows as float32."""

    def side(rows: Rows, labels: Labels, held_out: Rows) -> NDArray[np.int64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            model.fit(rows.astype(np.float32), labels)
        return np.asarray(model.predict(held_out.astype(np.float32)), np.int64)

    return side


def sides(epochs: int, batch: int) -> dict[str, Side]:
    """Our side, and scikit-learn's if it is installed."""
    available = {"fit_head": ours(epochs, batch)}
    if importlib.util.find_spec("sklearn") is None:
        click.echo("scikit-learn is not installed: its sides are skipped (pip install scikit-learn)", err=True)
        return available
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier((HIDDEN,), alpha=0.0, batch_size=batch, max_iter=epochs, n_iter_no_change=epochs)
    return available | {
        "MLPClassifier": scikit_learns(network),
        "LogisticRegression": scikit_learns(LogisticRegression()),
    }


def measured(side: Side, rows: int, seed: int) -> tuple[float, float]:
    """Seconds to train and predict, and accuracy on half as many held-out rows."""
    table, labels = separable(rows, 2 * seed + 1)
    held_out, expected = separable(rows // 2, 2 * seed + 2)
    start = time.perf_counter()
    predicted = side(table, labels, held_out)
    return time.perf_counter() - start, float((predicted == expected).mean())


@click.command()
@click.option("--rows", default=10_000, show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--batch", default=200, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="A fifth of the rows.")
def main(rows: int, epochs: int, batch: int, rounds: int, quick: bool) -> None:
    """Print each side's median seconds, their ratio to ours, and its accuracy."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    count = rows // 5 if quick else rows
    contenders = sides(epochs, batch)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, side in contenders.items():
            results[name].append(measured(side, count, number))
    medians = {
        name: [statistics.median(column) for column in zip(*pairs, strict=True)] for name, pairs in results.items()
    }
    mine = medians["fit_head"][0]
    print_table(
        f"python -m benchmarks.head.peers --rows {count} --epochs {epochs} --batch {batch}",
        ("side", "seconds", "times ours", "accuracy"),
        (
            [name, f"{seconds:.1f} s", f"{seconds / mine:.2f}x", f"{accuracy:.4f}"]
            for name, (seconds, accuracy) in medians.items()
        ),
    )


if __name__ == "__main__":
    main()
