"""One S3 store in a process of its own, which imports nothing else before: a cold start, or rounds of GETs.

``python -m benchmarks.sides.s3_engines_side boto3|obstore URI cold|rounds``; the objects' keys are
``0``, ``1``, and so on.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

CLIENTS = 16
OBJECTS = 400


def store_of(engine: str, uri: str) -> Any:
    """Import a store and open it."""
    if engine == "boto3":
        from transferlite.storage.s3_boto3 import S3Store

        return S3Store.from_uri(uri)
    from transferlite.storage.s3_obstore import ObstoreS3Store

    return ObstoreS3Store(uri)


def cold(engine: str, uri: str) -> dict[str, float]:
    """Seconds to open the store and of its first GET, seconds of CPU of both, peak bytes of memory."""
    start, used = time.perf_counter(), time.process_time()
    store = store_of(engine, uri)
    opened = time.perf_counter()
    store.get("0")
    ended, used = time.perf_counter(), time.process_time() - used
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM:"))
    memory = 1024 * int(peak.split()[1])
    return {"open": opened - start, "first": ended - opened, "start_cpu": used, "memory": memory}


def rounds(engine: str, uri: str) -> None:
    """Serve rounds: all objects by 16 threads, in seconds and in seconds of CPU."""
    from concurrent.futures import ThreadPoolExecutor

    from benchmarks.helpers.processes import serve

    store, pool = store_of(engine, uri), ThreadPoolExecutor(CLIENTS)
    keys = [str(number) for number in range(OBJECTS)]

    def one_round() -> dict[str, float]:
        start, used = time.perf_counter(), time.process_time()
        for blob in pool.map(store.get, keys):
            assert blob.data
        return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}

    serve({"round": one_round})


if __name__ == "__main__":
    chosen, where, what = sys.argv[1:]
    if what == "cold":
        print(json.dumps(cold(chosen, where)))
    else:
        rounds(chosen, where)
