"""PyTorch's side of the seed's job with EfficientNet-Lite0: the same weights, head, optimizer and schedule.

Two ways: the usual loop, which runs the frozen base under ``no_grad`` in every step, timed for a few steps; and the
strong one, which keeps the base's rows from one pass over the photos and then trains the head on them. As for
Keras, photos are decoded and in memory.
"""

import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from benchmarks.photos import decoded
from benchmarks.sides.torch_lite0 import WIDTH, pretrained

SKIPPED = 3
"""First steps that are not counted, as for Keras."""
_PASS_BATCH = 4
"""Photos at once in the one pass: of 1, 4, 8, 16 and 50 the fastest on a CPU, whose caches hold a layer of them."""


def head() -> Any:
    """Dense 1024 relu, Dense 2; the softmax is in the loss."""
    return nn.Sequential(nn.Linear(WIDTH, 1024), nn.ReLU(), nn.Linear(1024, 2))


def step_of(model: Any) -> Callable[[Any, Any], None]:
    """A training step on ``(rows [N, 1280], labels [N])``, with Keras's settings of RMSprop."""
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    loss_of = nn.CrossEntropyLoss()

    def step(rows: Any, labels: Any) -> None:
        optimizer.zero_grad()
        loss_of(model(rows), labels).backward()
        optimizer.step()

    return step


def batches(count: int, batch: int) -> Iterator[Any]:
    """Which photos are in each step: shuffled passes without end, as ``shuffle().repeat().batch()`` gives them."""
    places = itertools.chain.from_iterable(torch.randperm(count).tolist() for _ in itertools.count())
    while True:
        yield torch.tensor(list(itertools.islice(places, batch)))


def frozen_base_every_step(pixels: Any, labels: Any, batch: int, steps: int) -> list[float]:
    """Wall seconds of each of ``steps`` steps, after some that are not counted."""
    base, step = pretrained(), step_of(head())

    def whole(chosen: Any) -> None:
        with torch.no_grad():
            rows = base(pixels[chosen])
        step(rows, labels[chosen])

    return seconds_each(whole, itertools.islice(batches(len(pixels), batch), SKIPPED + steps))


def rows_kept(pixels: Any, labels: Any, batch: int, steps: int) -> tuple[dict[str, float], Any]:
    """Wall seconds to get the base ready, of one pass of it and of the head's steps, and the rows ``[N, 1280]``.

    BatchNormalization is folded into the convolutions. Pass and head are their batches' median times their number: on
    a machine that does something else as well, PyTorch's threads now and then lose each other for twenty times as long,
    which is not counted against it.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the padding is as constant as the size
        base = torch.jit.freeze(torch.jit.trace(pretrained(), pixels[:_PASS_BATCH]))
    ready = time.perf_counter() - start
    kept: list[Any] = []

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def one(part: Any) -> None:
        kept.append(base(part))

    parts = pixels.split(_PASS_BATCH)
    passed = seconds_each(one, [*parts[:SKIPPED], *parts])
    rows, step = torch.cat(kept[SKIPPED:]), step_of(head())
    chosen = itertools.islice(batches(len(pixels), batch), SKIPPED + steps)
    trained = seconds_each(lambda places: step(rows[places], labels[places]), chosen)
    whole = {name: statistics.median(each) * len(each) for name, each in (("pass", passed), ("head", trained))}
    return {"ready": ready, **whole}, rows


def seconds_each(work: Callable[[Any], None], items: Iterable[Any]) -> list[float]:
    """Wall seconds of ``work`` on each item but the first ones."""
    seconds = []
    for item in items:
        start = time.perf_counter()
        work(item)
        seconds.append(time.perf_counter() - start)
    return seconds[SKIPPED:]


@click.command()
@click.option("--photos", required=True, type=click.Path(path_type=Path))
@click.option("--count", required=True, type=int)
@click.option("--size", required=True, type=int)
@click.option("--batch", default=50, show_default=True)
@click.option("--steps", default=5, show_default=True, help="Steps of the usual loop to time.")
@click.option("--head-steps", default=1000, show_default=True)
@click.option("--rows", type=click.Path(path_type=Path), help="Where to leave the rows, as .npy.")
def main(photos: Path, count: int, size: int, batch: int, steps: int, head_steps: int, rows: Path | None) -> None:
    """Print ``{"steps": [seconds of each step], "kept": {"ready": seconds, "pass": seconds, "head": seconds}}``."""
    torch.set_flush_denormal(True)  # as TensorFlow does
    pixels = torch.from_numpy(decoded(photos, count, size)).permute(0, 3, 1, 2).float()  # channels last in memory
    labels = torch.arange(count) % 2
    kept, table = rows_kept(pixels, labels, batch, head_steps)
    if rows is not None:
        np.save(rows, table.numpy())
    click.echo(json.dumps({"steps": frozen_base_every_step(pixels, labels, batch, steps), "kept": kept}))


if __name__ == "__main__":
    main()
