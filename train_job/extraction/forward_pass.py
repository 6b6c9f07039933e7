"""Run the frozen base over photos on what is fastest here: LiteRT on a CPU, TensorFlow on GPUs.

On a CPU, LiteRT (XNNPACK) runs every backbone of the table faster than TensorFlow, some three times (measured in
``docs/benchmarks.md``), and gives the same rows within float16. What cannot be translated for it, TensorFlow runs.
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
from train_job.backbones.litert.layers import UnknownLayerError
from train_job.backbones.litert.translate_model import translate_to_tflite
from transferlite.images.decoder import RGB
from transferlite.storage.prefetch import prefetch_map

Item = TypeVar("Item")
Outputs = list[NDArray[np.float32]]
"""A photo's row ``[D]`` of each of the feature model's outputs."""
Source = Iterable[tuple[Item, Callable[[], RGB]]]
"""What to run: anything that names an image, and how to get it, uint8 ``[H, W, 3]``, which is called on a thread."""

_CPU_BATCH, _GPU_BATCH = 32, 256
_MOST_INTERPRETERS = 8


@dataclass
class Busy:
    """How long the forward pass really ran, summed over ``workers`` that may run at once."""

    workers: int
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count the time spent inside."""
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
    """One way to run a feature model.

    Attributes:
        name: ``litert`` or ``tensorflow``, with the devices, for people to read.
        precision: ``float32``, or ``mixed_float16`` on GPUs; rows of one are not taken for the other's.
        run: images in; each image's name and outputs out, in order, bounded in memory.
        busy: how long that took.
    """

    name: str
    precision: str
    run: Callable[[Source[Any]], Iterator[tuple[Any, Outputs]]]
    busy: Busy


def devices() -> list[str]:
    """The GPUs that TensorFlow sees, by name."""
    import tensorflow as tf

    with quiet_native_logs():  # without a GPU, the search for its driver is told as an error
        return [device.name for device in tf.config.list_logical_devices("GPU")]


def precision(gpus: Sequence[str]) -> str:
    """The Keras dtype policy under which :func:`fastest` runs the base."""
    return "mixed_float16" if gpus else "float32"


def fastest(model: Callable[[], Any], gpus: Sequence[str]) -> ForwardPass:
    """The fastest way that this machine has.

    Args:
        model: builds the feature model, from float RGB 0 to 255 ``[N, H, W, 3]`` to one output or a list of them.
        gpus: what :func:`devices` found.
    """
    if gpus:
        return on_gpus(model, gpus)
    built = model()
    try:
        return with_litert(translate_to_tflite(built), cores())
    except UnknownLayerError:
        return with_tensorflow(built)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def with_litert(content: bytes, cores: int) -> ForwardPass:
    """An interpreter for each core up to eight, each with an even share of the cores as its threads."""
    from ai_edge_litert.interpreter import Interpreter

    count = min(cores, _MOST_INTERPRETERS)
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with quiet_native_logs():
        for _ in range(count):
            interpreter = Interpreter(model_content=content, num_threads=max(1, cores // count))
            interpreter.allocate_tensors()
            idle.put(interpreter)
    busy = Busy(count)

    def one(item: tuple[Any, Callable[[], RGB]]) -> tuple[Any, Outputs]:
        name, image = item[0], item[1]()
        interpreter = idle.get()
        try:
            with busy():
                return name, _invoke(interpreter, image)
        finally:
            idle.put(interpreter)

    return ForwardPass(f"litert on {cores} cores", "float32", lambda items: prefetch_map(one, items, count), busy)


def _invoke(interpreter: Any, image: RGB) -> Outputs:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"])[0] for output in interpreter.get_output_details()]


def with_tensorflow(model: Any, batch: int = _CPU_BATCH) -> ForwardPass:
    """TensorFlow on the CPU, a batch at a time."""
    import tensorflow as tf

    forward = tf.function(lambda images: tf.nest.flatten(model(tf.cast(images, tf.float32), training=False)))
    busy = Busy(1)
    return ForwardPass("tensorflow on the cpu", "float32", partial(_batched, forward, batch, busy), busy)


def on_gpus(model: Callable[[], Any], gpus: Sequence[str], batch: int = _GPU_BATCH) -> ForwardPass:
    """TensorFlow compiled by XLA in mixed precision, ``batch`` photos a device, several devices by MirroredStrategy."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(list(gpus))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with strategy.scope():
            mirrored = model()
    finally:
        keras.config.set_dtype_policy(before)

    def forward(images: Any) -> Any:
        outputs = tf.nest.flatten(mirrored(tf.cast(images, tf.float32), training=False))
        return [tf.cast(output, tf.float32) for output in outputs]

    compiled = [tf.function(forward, jit_compile=True) for _ in gpus]  # one for each device's copy of the weights

    def replica(images: Any) -> Any:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        return compiled[int(tf.get_static_value(number))](images)

    everywhere = tf.function(lambda images: strategy.run(replica, args=(images,)))

    def step(images: NDArray[np.uint8]) -> Any:
        def shard(context: Any) -> Any:
            return tf.constant(images[context.replica_id_in_sync_group :: len(gpus)])

        outputs = everywhere(strategy.experimental_distribute_values_from_function(shard))
        return [_interleaved(strategy.experimental_local_results(output)) for output in outputs]

    busy = Busy(1)
    run = partial(_batched, step, batch * len(gpus), busy)
    return ForwardPass(f"tensorflow on {len(gpus)} gpus", "mixed_float16", run, busy)


def _interleaved(parts: Sequence[Any]) -> NDArray[np.float32]:
    """Undo ``images[i::n]``: row ``k`` of part ``i`` is row ``k * n + i``."""
    stacked = np.stack([np.asarray(part) for part in parts], axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def _batched(
    step: Callable[[NDArray[np.uint8]], Any], size: int, busy: Busy, items: Source[Item]
) -> Iterator[tuple[Item, Outputs]]:
    """Full batches only, the last filled up with zeros, so that the graph is compiled once.

    Images are made on threads, and the next batches are filled while one runs.
    """
    images = prefetch_map(lambda item: (item[0], item[1]()), items, cores())

    def run(batch: tuple[list[Item], NDArray[np.uint8]]) -> tuple[list[Item], Outputs]:
        with busy():
            return batch[0], [np.asarray(output, np.float32) for output in step(batch[1])]

    for names, outputs in prefetch_map(run, _batches(images, size), workers=1, window=2):
        for place, name in enumerate(names):
            yield name, [output[place].reshape(-1) for output in outputs]


def _batches(images: Iterator[tuple[Item, RGB]], size: int) -> Iterator[tuple[list[Item], NDArray[np.uint8]]]:
    while chunk := list(islice(images, size)):
        batch = np.zeros((size, *chunk[0][1].shape), np.uint8)
        batch[: len(chunk)] = [image for _, image in chunk]
        yield [name for name, _ in chunk], batch
