"""What a training's programs look like, planned from its size, so that they can be compiled before there are rows."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from train_job.recipe import Recipe
from train_job.steps import Program, predictor

CHUNK_ROWS, CHUNK_STEPS = 10_000, 1_000
"""What a compiled program does at most: a second on a small CPU, so that a job told to stop can do so in time.

Its rows are copied together first: 26 MB of them for EfficientNet-Lite0.
"""
_TOGETHER_BYTES = 2**25
"""The rows of several epochs that are copied together for one call."""


@dataclass(frozen=True)
class Limits:
    """What a training may take: bytes of rows in memory, and rows in one compiled program.

    ``compiled`` is whether XLA compiles the steps: best for dense layers, and far worse for convolutions on a CPU.
    """

    memory: int = 2**30
    chunk_rows: int = CHUNK_ROWS
    compiled: bool = True


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Plan:
    """A training in numbers: steps an epoch, and how they are parted among the calls of a compiled program.

    Attributes:
        steps: of an epoch.
        chunk: steps of one epoch in a call.
        most: steps in a call: those of several epochs, where they are so short, and none is chosen among them.
        window: what rows are shuffled in where they stream from their table: they are more than the memory allows.
    """

    steps: int
    chunk: int
    most: int
    window: int | None

    @classmethod
    def of(cls, count: int, width: int, recipe: Recipe, limits: Limits) -> "Plan":
        """For ``count`` float16 rows of ``width`` numbers.

        Where rows stream, a chunk is so small that it, the next one and what else they need stay within the limit.
        """
        steps, streams = recipe.steps(count), 2 * count * width > limits.memory
        rows = min(limits.chunk_rows, limits.memory // (6 * width)) if streams else limits.chunk_rows
        limit = max(1, min(rows // recipe.batch_size, CHUNK_STEPS))
        chunk = _even(steps, limit)
        one = streams or chunk < steps or recipe.needs_validation
        room = min(_TOGETHER_BYTES, limits.memory // 3) // (2 * width * recipe.batch_size)
        together = max(1, min(limit, room) // steps)
        most = chunk if one else steps * _even(recipe.epochs, together)
        return cls(steps, chunk, most, limit * recipe.batch_size if streams else None)


def _even(total: int, most: int) -> int:
    """``total`` in as few parts of at most ``most`` as can be, all of about this size."""
    return -(-total // -(-total // most))


class Prepared:
    """The program of a training and its head's answers, compiled and traced on a thread while its rows are made."""

    def __init__(self, head: Any, rows: int, recipe: Recipe, limits: Limits) -> None:
        self._program = new_program(head, Plan.of(rows, head.input_shape[-1], recipe, limits), recipe, limits)
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._ready = pool.submit(self._prepare, head)
        pool.shutdown(wait=False)

    def _prepare(self, head: Any) -> None:
        self._program.compile()
        predictor(head).get_concrete_function()

    def program(self) -> Program:
        """The program, as soon as it is ready."""
        self._ready.result()
        return self._program


def new_program(head: Any, plan: Plan, recipe: Recipe, limits: Limits) -> Program:
    """A program that suits ``plan``, not compiled yet."""
    return Program(head, recipe, recipe.epochs * plan.steps, plan.most, limits.compiled)
