"""PyTorch's side of ``benchmarks.seed_job``: EfficientNet-Lite0, same weights, head, optimizer and schedule.

Measured in two ways. The usual loop runs the frozen backbone under ``no_grad`` in every step, and is timed for a few
steps. The faster way runs the backbone once, caches the features and trains the head on them. As for Keras, photos are
already decoded in memory.
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

from benchmarks.helpers.photos import decoded_photos
from benchmarks.sides.torch_lite0 import WIDTH, pretrained

SKIPPED = 3
"""First steps, which are not counted, as for Keras."""
_PASS_BATCH = 4
"""Batch size of the single pass: the fastest of 1, 4, 8, 16 and 50 on a CPU, whose caches hold one of its layers."""


def head() -> Any:
    """Build the head: Dense 1024 relu, Dense 2; the softmax is in the loss."""
    return nn.Sequential(nn.Linear(WIDTH, 1024), nn.ReLU(), nn.Linear(1024, 2))


def step_of(model: Any) -> Callable[[Any, Any], None]:
    """Make a training step on ``(features [N, 1280], labels [N])``, with Keras's settings of RMSprop."""
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    loss_of = nn.CrossEntropyLoss()

    def step(rows: Any, labels: Any) -> None:
        optimizer.zero_grad()
        loss_of(model(rows), labels).backward()
        optimizer.step()

    return step


def batches(count: int, batch: int) -> Iterator[Any]:
    """Indices of the photos of each step: endless shuffled passes, as of ``shuffle().repeat().batch()``."""
    indices = itertools.chain.from_iterable(torch.randperm(count).tolist() for _ in itertools.count())
    while True:
        yield torch.tensor(list(itertools.islice(indices, batch)))


def backbone_every_step(pixels: Any, labels: Any, batch: int, steps: int) -> list[float]:
    """Wall seconds of each of ``steps`` steps with the backbone, after :data:`SKIPPED` steps."""
    backbone, step = pretrained(), step_of(head())

    def full_step(indices: Any) -> None:
        with torch.no_grad():
            features = backbone(pixels[indices])
        step(features, labels[indices])

    return seconds_each(full_step, itertools.islice(batches(len(pixels), batch), SKIPPED + steps))


def cached_features(pixels: Any, labels: Any, batch: int, steps: int) -> tuple[dict[str, float], Any]:
    """Wall seconds to prepare the backbone, of a single pass and of the head's steps; and the features ``[N, 1280]``.

    BatchNormalization is folded into the convolutions. Pass and head are the median of their batches times the number
    of batches: on a busy machine some batches of PyTorch take 20 times as long, and these must not count.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the padding is constant for a constant size
        backbone = torch.jit.freeze(torch.jit.trace(pretrained(), pixels[:_PASS_BATCH]))
    ready = time.perf_counter() - start
    outputs: list[Any] = []

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def run_backbone(part: Any) -> None:
        outputs.append(backbone(part))

    parts = pixels.split(_PASS_BATCH)
    pass_seconds = seconds_each(run_backbone, [*parts[:SKIPPED], *parts])
    features, step = torch.cat(outputs[SKIPPED:]), step_of(head())
    order = itertools.islice(batches(len(pixels), batch), SKIPPED + steps)
    head_seconds = seconds_each(lambda indices: step(features[indices], labels[indices]), order)
    measured = {"pass": pass_seconds, "head": head_seconds}
    totals = {name: statistics.median(seconds) * len(seconds) for name, seconds in measured.items()}
    return {"ready": ready, **totals}, features


def seconds_each(work: Callable[[Any], None], items: Iterable[Any]) -> list[float]:
    """Wall seconds of ``work`` on each item after the first :data:`SKIPPED`."""
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
@click.option("--rows", type=click.Path(path_type=Path), help="File for the feature rows, as .npy.")
def main(photos: Path, count: int, size: int, batch: int, steps: int, head_steps: int, rows: Path | None) -> None:
    """Print ``{"steps": [seconds of each step], "kept": {"ready": seconds, "pass": seconds, "head": seconds}}``."""
    torch.set_flush_denormal(True)  # as TensorFlow does
    pixels = (
        torch.from_numpy(decoded_photos(photos, count, size)).permute(0, 3, 1, 2).float()
    )  # channels last in memory
    labels = torch.arange(count) % 2
    kept, features = cached_features(pixels, labels, batch, head_steps)
    if rows is not None:
        np.save(rows, features.numpy())
    click.echo(json.dumps({"steps": backbone_every_step(pixels, labels, batch, steps), "kept": kept}))


if __name__ == "__main__":
    main()
