"""One fresh process of ``transferlite edge bench``: start, first answer, then many. Its imports are part of the start.

``python -m transferlite.edge.benchmark_process STARTED BUNDLE VARIANT THREADS PHOTO CALLS`` prints one JSON object;
STARTED is the clock (``time.monotonic()``, which all processes share) when it was started.
"""

import json
import sys
import time
from typing import Any


def measure(started: float, bundle: str, variant: str, threads: int, photo: str, calls: int) -> dict[str, Any]:
    """Seconds from ``started`` to the first answer, seconds of each further one, and the peak of memory in bytes."""
    from transferlite import Predictor

    predictor = Predictor.load(bundle, variant, threads)
    with open(photo, "rb") as file:  # noqa: PTH123
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
    """The most memory that this process has had in use, in bytes."""
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:  # no Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _runtime() -> str:
    from importlib.metadata import PackageNotFoundError, version

    from transferlite.inference.interpreter import runtime_name

    try:
        return f"{runtime_name()} {version(runtime_name())}"
    except PackageNotFoundError:
        return runtime_name()


def main() -> None:
    """Measure, and print what was found or why it could not be."""
    started, bundle, variant, threads, photo, calls = sys.argv[1:]
    from transferlite.errors import TransferLiteError

    try:
        found = measure(float(started), bundle, variant, int(threads), photo, int(calls))
    except TransferLiteError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
