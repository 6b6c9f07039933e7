"""Training the head on many feature rows, compared with its arithmetic alone, by turns in one process.

The arithmetic is measured twice: the five matrix products of a step only, and the products with the recipe's update of
the weights (``benchmarks/head/floor.py``).
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np

from benchmarks.head.floor import program
from benchmarks.helpers.processes import print_table

WIDTH, HIDDEN, CLASSES = 1280, 1024, 10


def products(rows: Any, batch: int) -> Any:
    """Make a compiled function of row indices ``[steps, batch]`` with only the five matrix products of each step."""
    import tensorflow as tf

    weights = tf.random.normal((WIDTH, HIDDEN), stddev=0.01)
    weights_out = tf.random.normal((HIDDEN, CLASSES), stddev=0.01)

    def run(order: Any) -> Any:
        total, total_out = tf.zeros_like(weights), tf.zeros_like(weights_out)
        for step in tf.range(tf.shape(order)[0]):
            x = tf.cast(tf.gather(rows, order[step]), tf.float32)
            hidden = x @ weights
            error = hidden @ weights_out
            back = tf.matmul(error, weights_out, transpose_b=True)
            total = tf.matmul(x, back, transpose_a=True)
            total_out = tf.matmul(hidden, error, transpose_a=True)
        return total[0, 0] + total_out[0, 0]

    return tf.function(run, jit_compile=True)


def ours(table: Any, labels: Any, batch: int, epochs: int, memory: int) -> float:
    """Seconds of ``fit_head`` without compilation, which a training job does while it extracts features."""
    import keras

    from train_job.head.compiled_loop import PreparedProgram, ResourceLimits
    from train_job.head.fit import fit_head
    from train_job.head.model import head_model
    from train_job.head.recipe import recipe_from_options
    from train_job.head.row_sets import RowSet
    from train_job.options import TrainOptions

    keras.utils.set_random_seed(0)
    train = RowSet(table, np.arange(len(table)), labels)
    no_validation = RowSet(table, train.ids[:0], labels[:0])
    head = head_model(WIDTH, HIDDEN, CLASSES)
    recipe = recipe_from_options(TrainOptions(images="", registry="", epochs=epochs, batch_size=batch))
    limits = ResourceLimits(memory)
    prepared = PreparedProgram(head, len(table), recipe, limits)
    prepared.program()
    start = time.perf_counter()
    fit_head(head, train, no_validation, recipe, lambda _: None, limits=limits, prepared=prepared)
    return time.perf_counter() - start


def floor(run: Callable[[Any], Any], count: int, batch: int, epochs: int) -> float:
    """Seconds of a compiled program of row indices ``[steps, batch]``, for the same number of epochs."""
    import tensorflow as tf

    start = time.perf_counter()
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(count)[: count // batch * batch].reshape(-1, batch)
        run(tf.constant(order, tf.int32)).numpy()
    return time.perf_counter() - start


@click.command()
@click.option("--rows", default=100_000, show_default=True)
@click.option("--epochs", default=1, show_default=True, help="Epochs per round; the ratios do not depend on it.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="A tenth of the rows.")
def main(rows: int, epochs: int, rounds: int, quick: bool) -> None:
    """Print the minimum seconds of all sides and their ratios, for two batch sizes, rows in memory and streamed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    count = rows // 10 if quick else rows
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    table = random.random((count, WIDTH), np.float32).astype(np.float16)
    device, one_hot = tf.constant(table), tf.constant(np.eye(CLASSES, dtype=np.float32)[labels])

    def row(batch: int, memory: int, name: str) -> list[str]:
        update = program(batch, [(WIDTH, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)])
        floors = products(device, batch), partial(update, device, one_hot)
        for run in floors:
            floor(run, count, batch, 1)
        sides: list[Callable[[], float]] = [lambda: ours(table, labels, batch, epochs, memory)]
        sides += [partial(floor, run, count, batch, epochs) for run in floors]
        mine, *minima = (
            min(column) for column in zip(*([side() for side in sides] for _ in range(rounds)), strict=True)
        )
        compared = [text for seconds in minima for text in (f"{seconds:.1f} s", f"**{mine / seconds:.2f}x**")]
        return [f"{batch}", name, f"{mine:.1f} s", *compared]

    table_rows = (
        row(batch, memory, name) for batch in (50, 500) for memory, name in ((2**40, "in memory"), (2**26, "streamed"))
    )
    mine = f"fit_head, {epochs} epoch{'s' * (epochs > 1)}"
    header = ("batch", "rows", mine, "matrix products alone", "ratio", "products and updates", "ratio")
    print_table(f"python -m benchmarks.head.rows --rows {count} --epochs {epochs}", header, table_rows)


if __name__ == "__main__":
    main()
