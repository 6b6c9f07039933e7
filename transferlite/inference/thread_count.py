"""Number of threads for the interpreter: the cores that this process may use."""

import os
from collections.abc import Mapping

MEGABYTES_PER_CORE = 1769
"""Lambda memory that comes with one vCPU.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""


_MAX_THREADS = 8
"""One photo's forward pass gains nothing from more threads."""


def usable_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of cores this process may use, at most 8.

    A Lambda function sees all cores of its host but gets CPU time in proportion to its memory: more threads only wait.
    """
    memory = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    cores = max(1, round(int(memory) / MEGABYTES_PER_CORE)) if memory.isdigit() else _MAX_THREADS
    return min(len(os.sched_getaffinity(0)), cores, _MAX_THREADS)
