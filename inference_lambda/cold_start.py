"""Initialisation before the first event, while Lambda gives the function a full CPU whatever its memory.

With SnapStart, Lambda takes a snapshot of the process afterwards and resumes it many times. The snapshot holds the
model, but no open connection and no cached channel pointer.
"""

import gc
import json
import os
import resource
import sys
from collections.abc import Callable
from threading import Thread

from inference_lambda.observability.telemetry import log
from inference_lambda.service import Service
from transferlite.predict.predictor import import_runtime


def load_before_first_event(service: Callable[[], Service]) -> None:
    """Load the model; download and check it while a thread imports the libraries that run it.

    An error is logged and met again by the first event, which reports it to its sender. If it were raised here, Lambda
    would repeat the initialisation for every event and report less.

    Args:
        service: returns the function's service.
    """
    _limit_memory()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy would start threads that nothing here uses
    gc.disable()  # imports create many objects, and nearly all stay
    interval = sys.getswitchinterval()
    imports = Thread(target=import_runtime, name="imports")
    imports.start()
    try:
        service().model.get()
    except Exception as error:
        log.error(json.dumps({"event": "not-ready", "reason": str(error)}))
    imports.join()
    sys.setswitchinterval(interval)  # import_runtime ran in both threads; each restored the value that it found
    gc.freeze()
    gc.enable()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        _register_snapshot_hook(service)


def _limit_memory() -> None:
    """Make an allocation beyond the function's size fail: it is then one photo's error, not the end of the batch."""
    size = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if size.isdigit() and (hard == resource.RLIM_INFINITY or int(size) * 2**20 <= hard):
        resource.setrlimit(resource.RLIMIT_DATA, (int(size) * 2**20, hard))


def _register_snapshot_hook(service: Callable[[], Service]) -> None:
    """Close the S3 client and expire the channel pointer before Lambda takes the snapshot.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    """
    from snapshot_restore_py import register_before_snapshot

    def before_snapshot() -> None:
        from transferlite.storage.s3_boto3 import s3_client

        s3_client().close()
        s3_client.cache_clear()
        service().model.expire_pointer()

    register_before_snapshot(before_snapshot)
