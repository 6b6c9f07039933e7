"""Speed limit of training the head: its steps as one compiled program of matrix products and updates.

Dense relu, Dense softmax and RMSprop, with explicit derivatives: five matrix products per step, and no arithmetic that
the recipe does not need. It computes no metrics, and is compiled before the time is taken.
"""

import os
import time
from typing import Any

import click

from benchmarks.helpers.processes import serve

_RATE, _DECAY, _EPSILON = 1e-3, 0.9, 1e-7


def program(batch: int, shapes: list[tuple[int, ...]]) -> Any:
    """Make a function of feature rows ``[N, D]``, one-hot labels ``[N, C]`` and row indices ``[steps, batch]``.

    The compiled function runs all steps and returns the last gradient of the output's bias.
    """
    import tensorflow as tf

    random = tf.random.Generator.from_seed(0)
    weights = [tf.Variable(random.normal(shape, stddev=0.03)) for shape in shapes]
    squares = [tf.Variable(tf.zeros(shape)) for shape in shapes]

    def gradients(x: Any, y: Any) -> list[Any]:
        hidden_weights, hidden_bias, weights_out, bias_out = weights
        hidden = tf.nn.relu(x @ hidden_weights + hidden_bias)
        error = (tf.nn.softmax(hidden @ weights_out + bias_out) - y) / batch
        back = tf.where(hidden > 0, tf.matmul(error, weights_out, transpose_b=True), 0.0)
        products = [tf.matmul(x, back, transpose_a=True), tf.matmul(hidden, error, transpose_a=True)]
        return [products[0], tf.reduce_sum(back, 0), products[1], tf.reduce_sum(error, 0)]

    def run(rows: Any, labels: Any, order: Any) -> Any:
        current = [tf.zeros(shape) for shape in shapes]
        for step in tf.range(tf.shape(order)[0]):
            current = gradients(tf.cast(tf.gather(rows, order[step]), tf.float32), tf.gather(labels, order[step]))
            for weight, square, gradient in zip(weights, squares, current, strict=True):
                square.assign(_DECAY * square + (1 - _DECAY) * gradient * gradient)
                weight.assign_sub(_RATE * gradient * tf.math.rsqrt(square + _EPSILON))
        return current[-1]

    return tf.function(run, jit_compile=True)


@click.command()
@click.option("--rows", required=True, type=int)
@click.option("--width", required=True, type=int)
@click.option("--hidden", default=1024, show_default=True)
@click.option("--classes", default=2, show_default=True)
@click.option("--batch", default=50, show_default=True)
@click.option("--steps", default=1000, show_default=True)
def main(rows: int, width: int, hidden: int, classes: int, batch: int, steps: int) -> None:
    """Serve ``ready``, the seconds to trace and compile, and ``round``, the seconds of all steps."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    labels = random.integers(0, classes, rows)
    table = tf.constant(random.random((rows, width), np.float32))
    one_hot = tf.constant(np.eye(classes, dtype=np.float32)[labels])
    order = tf.constant(np.resize(random.permutation(rows), (steps, batch)), tf.int32)
    run = program(batch, [(width, hidden), (hidden,), (hidden, classes), (classes,)])

    def timed() -> float:
        start = time.perf_counter()
        run(table, one_hot, order).numpy()
        return time.perf_counter() - start

    compile_and_run = timed()
    ready = compile_and_run - timed()
    serve({"ready": lambda: ready, "round": timed})


if __name__ == "__main__":
    main()
