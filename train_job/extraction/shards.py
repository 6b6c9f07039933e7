"""``transferlite features extract``: make rows without training, on many machines or processes at once.

Each shard takes the photos whose URI hashes to its number, and writes parts of its own; the training then finds every
row there. A shard that died is run again, and makes what is missing.
"""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

from export.native_logs import quiet_native_logs
from train_job.data.labels.read_labels import read_data
from train_job.extraction.extract_features import ExtractionCounts
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.sigterm import on_sigterm
from transferlite.errors import InputError, StoppedError, TransferLiteError
from transferlite.storage.locations import open_store


@dataclass(frozen=True)
class Shard:
    """Part ``index``, from 0, of ``count``."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(f"there is no shard {self}", hint="shards of 4 are 0/4, 1/4, 2/4 and 3/4")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """``2/8`` -> the third of eight. Raises InputError."""
        index, _, count = text.partition("/")
        if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
            raise InputError(f"{text!r} is not a shard", hint="write it as 0/4")
        return cls(int(index), int(count))

    @classmethod
    def of_this_job(cls) -> "Shard":
        """The shard that AWS Batch gives this child of an array job; the whole elsewhere."""
        count = os.environ.get("AWS_BATCH_JOB_ARRAY_SIZE")
        return cls.parse(f"{os.environ.get('AWS_BATCH_JOB_ARRAY_INDEX', '')}/{count}") if count else cls()

    def has(self, uri: str) -> bool:
        """Whether the photo at ``uri`` is this shard's."""
        digest = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index

    def part(self, index: int, count: int) -> "Shard":
        """Part ``index`` of ``count`` of this shard."""
        return Shard(self.index + self.count * index, self.count * count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def extract_shard(options: TrainOptions, shard: Shard, report: Reporter) -> ExtractionCounts:
    """Have the feature store hold the rows of this shard's photos.

    Raises:
        StoppedError: SIGTERM; what was done is written, and the same command goes on from there.
        InputError, UnavailableError: as training.
    """
    with on_sigterm() as stop:
        open_store(options.feature_store).check_writable()
        dataset = read_data(options, report)
        examples = [example for example in dataset.examples if shard.has(example.image)]
        report.line(f"shard {shard}: {len(examples)} of {len(dataset.examples)} photos")
        with quiet_native_logs():
            from train_job.extraction.frozen_backbone import FrozenBackbone, extract_new
            from train_job.store.feature_store import FeatureStore

        store = FeatureStore.open(options.feature_store, report.warning)
        return extract_new(FrozenBackbone(options), examples, store, report, stop).counts


def extract_in_processes(options: TrainOptions, shard: Shard, workers: int) -> ExtractionCounts:
    """The same in a process for each of ``workers`` parts of the shard, each on its share of the cores.

    Returns the sum of what they cost; ``seconds`` and ``waiting`` are of the slowest.

    Raises:
        StoppedError: SIGTERM, which was passed on to the processes.
        TransferLiteError: a process failed; it has printed why.
    """
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [
        context.Process(
            target=_worker, args=(options, shard.part(index, workers), _share(cores, index, workers), results)
        )
        for index in range(workers)
    ]
    before = signal.signal(signal.SIGTERM, partial(_pass_on, processes))
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in processes:
            process.terminate()
    codes = {process.exitcode for process in processes}
    if StoppedError.exit_code in codes:
        raise StoppedError("stopped by SIGTERM", hint="run the same command again: it goes on from here")
    if codes != {0}:
        raise TransferLiteError(f"{sum(process.exitcode != 0 for process in processes)} of {workers} workers failed")
    return _sum([results.get() for _ in processes])


def _share(cores: list[int], index: int, workers: int) -> list[int]:
    """The cores of one worker of several; where there are more workers than cores, some share one."""
    return cores[index::workers] or [cores[index % len(cores)]]


def _sum(parts: Sequence[ExtractionCounts]) -> ExtractionCounts:
    slowest = max(parts, key=lambda one: one.seconds)
    return replace(
        slowest,
        fetched=sum(one.fetched for one in parts),
        forwarded=sum(one.forwarded for one in parts),
        reused=sum(one.reused for one in parts),
    )


def _pass_on(processes: Sequence[Any], number: int, _frame: FrameType | None) -> None:
    for process in processes:
        if process.pid and process.is_alive():
            os.kill(process.pid, number)


def _worker(options: TrainOptions, shard: Shard, cores: list[int], results: Any) -> None:
    """One process of :func:`extract_in_processes`."""
    os.sched_setaffinity(0, cores)
    try:
        results.put(extract_shard(options, shard, Reporter()))
    except TransferLiteError as error:
        Reporter().warning(f"shard {shard}: {error}")
        raise SystemExit(error.exit_code) from None
