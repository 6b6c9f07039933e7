"""Run the feature model over photos on the fastest engine of this machine: LiteRT on a CPU, TensorFlow on GPUs.

On a CPU, LiteRT (XNNPACK) runs every backbone of the table 1.15 to 4.5 times as fast as TensorFlow, with the same
rows within float16 (``docs/benchmarks.md``, "The forward pass").
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from export.native_logs import quiet_native_logs
from transferlite.images.decoder import RGB
from transferlite.storage.prefetch import prefetch_map

Item = TypeVar("Item")
Outputs = list[NDArray[np.float32]]
"""A photo's row ``[D]`` for each output of the feature model."""
Source = Iterable[tuple[Item, Callable[[], RGB]]]
"""Input of a forward pass: a key, and a function, called on a thread, that makes its image uint8 ``[H, W, 3]``."""

_GPU_BATCH = 256
_MAX_INTERPRETERS = 8


@dataclass
class BusyTime:
    """Seconds that a forward pass spent computing, summed over ``workers`` that run at once."""

    workers: int
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Add the time spent in the ``with`` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds += time.perf_counter() - start

    def waiting(self, wall: float) -> float:
        """The share of ``wall`` seconds, 0 to 1, in which the workers had no image to run."""
        return max(0.0, 1 - self.seconds / (self.workers * wall)) if wall else 0.0


@dataclass(frozen=True)
class ForwardPass:
    """A feature model on one engine.

    Attributes:
        name: engine and devices, for the log.
        precision: ``float32``, or ``mixed_float16`` on GPUs; their rows are kept in different feature spaces.
        run: function from images to each image's key and outputs, in order and in bounded memory.
        busy: time spent computing.
    """

    name: str
    precision: str
    run: Callable[[Source[Any]], Iterator[tuple[Any, Outputs]]]
    busy: BusyTime


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def litert_forward_pass(content: bytes, cores: int) -> ForwardPass:
    """Run a TFLite file on LiteRT, with one interpreter per core up to eight that share the cores as threads."""
    from ai_edge_litert.interpreter import Interpreter

    count = min(cores, _MAX_INTERPRETERS)
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with quiet_native_logs():
        for _ in range(count):
            interpreter = Interpreter(model_content=content, num_threads=max(1, cores // count))
            interpreter.allocate_tensors()
            idle.put(interpreter)
    busy = BusyTime(count)

    def run_image(item: tuple[Any, Callable[[], RGB]]) -> tuple[Any, Outputs]:
        key, image = item[0], item[1]()
        interpreter = idle.get()
        try:
            with busy():
                return key, _invoke(interpreter, image)
        finally:
            idle.put(interpreter)

    return ForwardPass(f"litert on {cores} cores", "float32", lambda items: prefetch_map(run_image, items, count), busy)


def _invoke(interpreter: Any, image: RGB) -> Outputs:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"])[0] for output in interpreter.get_output_details()]


def gpu_forward_pass(model: Callable[[], Any], gpus: Sequence[str], batch: int = _GPU_BATCH) -> ForwardPass:
    """Run the model on GPUs with TensorFlow, compiled by XLA in mixed precision, ``batch`` photos per device.

    MirroredStrategy copies the weights to each device.
    """
    import keras
    import tensorflow as tf

    from train_job.head.compiled_loop import compile_lock

    strategy = tf.distribute.MirroredStrategy(list(gpus))
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with strategy.scope():
            mirrored = model()
    finally:
        keras.config.set_dtype_policy(previous)

    def forward(images: Any) -> Any:
        outputs = tf.nest.flatten(mirrored(tf.cast(images, tf.float32), training=False))
        return [tf.cast(output, tf.float32) for output in outputs]

    compiled = [tf.function(forward, jit_compile=True) for _ in gpus]  # one per device's copy of the weights

    def replica(images: Any) -> Any:
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        return compiled[int(tf.get_static_value(index))](images)

    run_replicas = tf.function(lambda images: strategy.run(replica, args=(images,)))

    def step(images: NDArray[np.uint8]) -> Any:
        def shard(context: Any) -> Any:
            return tf.constant(images[context.replica_id_in_sync_group :: len(gpus)])

        outputs = run_replicas(strategy.experimental_distribute_values_from_function(shard))
        return [_interleave(strategy.experimental_local_results(output)) for output in outputs]

    is_compiled = False

    def compile_and_step(images: NDArray[np.uint8]) -> Any:
        """Run a batch; the first one under the lock of XLA, since it compiles."""
        nonlocal is_compiled
        if is_compiled:
            return step(images)
        with compile_lock:
            outputs = step(images)
        is_compiled = True
        return outputs

    busy = BusyTime(1)
    run = partial(_batched, compile_and_step, batch * len(gpus), busy)
    return ForwardPass(f"tensorflow on {len(gpus)} gpus", "mixed_float16", run, busy)


def _interleave(parts: Sequence[Any]) -> NDArray[np.float32]:
    """Undo ``images[i::n]``: row ``k`` of part ``i`` is row ``k * n + i``."""
    stacked = np.stack([np.asarray(part) for part in parts], axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def _batched(
    step: Callable[[NDArray[np.uint8]], Any], size: int, busy: BusyTime, items: Source[Item]
) -> Iterator[tuple[Item, Outputs]]:
    """Run images in full batches, the last padded with zeros, so that the graph is compiled once.

    Images are made on threads, and the next batches are filled while the current one runs.
    """
    images = prefetch_map(lambda item: (item[0], item[1]()), items, available_cores())

    def run(batch: tuple[list[Item], NDArray[np.uint8]]) -> tuple[list[Item], Outputs]:
        with busy():
            return batch[0], [np.asarray(output, np.float32) for output in step(batch[1])]

    for keys, outputs in prefetch_map(run, _batches(images, size), workers=1, window=2):
        for index, key in enumerate(keys):
            yield key, [output[index].reshape(-1) for output in outputs]


def _batches(images: Iterator[tuple[Item, RGB]], size: int) -> Iterator[tuple[list[Item], NDArray[np.uint8]]]:
    while chunk := list(islice(images, size)):
        batch = np.zeros((size, *chunk[0][1].shape), np.uint8)
        batch[: len(chunk)] = [image for _, image in chunk]
        yield [key for key, _ in chunk], batch
