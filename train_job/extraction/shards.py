"""Extract features without training, on many machines or processes at once: ``transferlite features extract``.

A shard holds the photos whose URI hashes to its index, and writes its own parts; the training then finds every row in
the feature store. A shard that died is started again and computes the missing rows.
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

import numpy as np

from export.native_logs import quiet_native_logs
from train_job.data.labels.read_labels import read_job_dataset
from train_job.extraction.extract_features import ExtractionCounts
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.sigterm import stop_on_sigterm, stopped_by_sigterm
from transferlite.child_python import safe_path
from transferlite.errors import InputError, StoppedError, TransferLiteError
from transferlite.storage.locations import open_store


@dataclass(frozen=True)
class Shard:
    """Shard ``index``, from 0, of ``count``."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(f"there is no shard {self}", hint="shards of 4 are 0/4, 1/4, 2/4 and 3/4")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse ``2/8``, the third shard of eight. Raises InputError."""
        index, _, count = text.partition("/")
        if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
            raise InputError(f"{text!r} is not a shard", hint="write it as 0/4")
        return cls(int(index), int(count))

    @classmethod
    def of_this_job(cls) -> "Shard":
        """The shard of this child of an AWS Batch array job; 0/1, all photos, elsewhere."""
        count = os.environ.get("AWS_BATCH_JOB_ARRAY_SIZE")
        return cls.parse(f"{os.environ.get('AWS_BATCH_JOB_ARRAY_INDEX', '')}/{count}") if count else cls()

    def contains(self, uri: bytes) -> bool:
        """Whether the photo at ``uri``, as :func:`train_job.data.photos.encode_text` has it, belongs to this shard."""
        digest = hashlib.sha256(uri).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index

    def subshard(self, index: int, count: int) -> "Shard":
        """Shard ``index`` of ``count`` of this shard's photos."""
        return Shard(self.index + self.count * index, self.count * count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def extract_shard(options: TrainOptions, shard: Shard, report: Reporter) -> ExtractionCounts:
    """Compute the missing feature rows of this shard's photos.

    Raises:
        StoppedError: SIGTERM; finished rows are written, and the same command resumes.
        InputError, UnavailableError: as training.
    """
    with stop_on_sigterm() as stop:
        open_store(options.feature_store).check_writable()
        dataset = read_job_dataset(options, report)
        is_ours = [shard.contains(uri) for uri in dataset.examples.uris.to_pylist()]
        examples = dataset.examples.take(np.array(is_ours, bool))
        report.line(f"shard {shard}: {len(examples)} of {len(dataset.examples)} photos")
        with quiet_native_logs():
            from train_job.extraction.frozen_backbone import FrozenBackbone, extract_missing
            from train_job.store.conversion_store import ConversionStore
            from train_job.store.feature_store import FeatureStore

        store = FeatureStore.open(options.feature_store, report.warning)
        conversions = ConversionStore(store.store, report.warning)
        return extract_missing(FrozenBackbone(options, conversions), examples, store, report, stop).counts


def extract_in_processes(options: TrainOptions, shard: Shard, workers: int) -> ExtractionCounts:
    """Compute the missing feature rows of a shard in ``workers`` processes, each pinned to its share of the cores.

    Returns the summed counts, with ``seconds`` and ``waiting`` of the slowest process.

    Raises:
        StoppedError: SIGTERM, which is forwarded to the processes.
        TransferLiteError: a process failed; it has printed the reason.
    """
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [
        context.Process(
            target=_worker, args=(options, shard.subshard(index, workers), _share(cores, index, workers), results)
        )
        for index in range(workers)
    ]
    previous = signal.signal(signal.SIGTERM, partial(_forward_signal, processes))
    try:
        with safe_path():
            for process in processes:
                process.start()
        for process in processes:
            process.join()
    finally:
        signal.signal(signal.SIGTERM, previous)
        for process in processes:
            process.terminate()
    codes = {process.exitcode for process in processes}
    if StoppedError.exit_code in codes:
        raise stopped_by_sigterm()
    if codes != {0}:
        raise TransferLiteError(f"{sum(process.exitcode != 0 for process in processes)} of {workers} workers failed")
    return _sum([results.get() for _ in processes])


def _share(cores: list[int], index: int, workers: int) -> list[int]:
    """Cores of worker ``index``; with more workers than cores, several workers share a core."""
    return cores[index::workers] or [cores[index % len(cores)]]


def _sum(parts: Sequence[ExtractionCounts]) -> ExtractionCounts:
    slowest = max(parts, key=lambda counts: counts.seconds)
    return replace(
        slowest,
        fetched=sum(counts.fetched for counts in parts),
        forwarded=sum(counts.forwarded for counts in parts),
        reused=sum(counts.reused for counts in parts),
    )


def _forward_signal(processes: Sequence[Any], number: int, _frame: FrameType | None) -> None:
    for process in processes:
        if process.pid and process.is_alive():
            os.kill(process.pid, number)


def _worker(options: TrainOptions, shard: Shard, cores: list[int], results: Any) -> None:
    """Run one process of :func:`extract_in_processes`."""
    os.sched_setaffinity(0, cores)
    try:
        results.put(extract_shard(options, shard, Reporter()))
    except TransferLiteError as error:
        Reporter().warning(f"shard {shard}: {error}")
        raise SystemExit(error.exit_code) from None
