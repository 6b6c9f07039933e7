"""One process of ``transferlite edge bench``: measures its start, the first prediction and further predictions.

``python -m transferlite.edge.benchmark_process STARTED BUNDLE VARIANT THREADS PHOTO CALLS`` prints one JSON object.
STARTED is the parent's ``time.monotonic()``, a clock that all processes share, so imports count as part of the start.
"""

import json
import sys
import time
from typing import Any


def measure(started: float, bundle: str, variant: str, threads: int, photo: str, calls: int) -> dict[str, Any]:
    """Measure ``first``, seconds from ``started`` to the first prediction, then ``seconds`` of each further one."""
    from transferlite import Predictor

    predictor = Predictor.load(bundle, variant, threads)
    with open(photo, "rb") as file:  # noqa: PTH123 - pathlib's import would count as part of the start
        data = file.read()
    predictor(data)
    first = time.monotonic() - started
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        predictor(data)
        seconds.append(time.perf_counter() - start)
    return {"first": first, "seconds": seconds, "peak": peak_memory(), "runtime": _runtime()}


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def _runtime() -> str:
    from importlib.metadata import PackageNotFoundError, version

    from transferlite.inference.interpreter import runtime_name

    try:
        return f"{runtime_name()} {version(runtime_name())}"
    except PackageNotFoundError:
        return runtime_name()


def main() -> None:
    """Print the measurement, or ``{"error": ...}``."""
    started, bundle, variant, threads, photo, calls = sys.argv[1:]
    from transferlite.errors import TransferLiteError

    try:
        result = measure(float(started), bundle, variant, int(threads), photo, int(calls))
    except TransferLiteError as error:
        result = {"error": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
