"""What a function does before its first event: Lambda then gives it a full processor, whatever its memory.

With SnapStart a snapshot of the process is taken after this, and goes on later and many times: it holds the model, and
neither a connection nor a belief about what the channel names.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from threading import Thread

from inference_lambda.observability.telemetry import log
from inference_lambda.service import Service
from transferlite.predict.predictor import import_runtime


def prepare(service: Callable[[], Service]) -> None:
    """Load the model, which is fetched and checked while the libraries that run it are imported.

    What goes wrong is logged and met again by the first event, whose sender is told; a failed initialisation would be
    repeated for every event, and say less.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's own threads, which nothing here would use
    gc.disable()  # imports make many objects, and nearly all are to stay
    interval = sys.getswitchinterval()
    libraries = Thread(target=import_runtime, name="libraries")
    libraries.start()
    try:
        service().model.get()
    except Exception as error:
        log.error(json.dumps({"event": "not-ready", "reason": str(error)}))
    libraries.join()
    sys.setswitchinterval(interval)  # which both imports have changed, one during the other
    gc.freeze()
    gc.enable()
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        _be_ready_for_a_snapshot(service)


def _be_ready_for_a_snapshot(service: Callable[[], Service]) -> None:
    """Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html"""
    from snapshot_restore_py import register_before_snapshot

    def let_go() -> None:
        from transferlite.storage.s3_boto3 import s3_client

        s3_client().close()
        s3_client.cache_clear()
        service().model.look_again()

    register_before_snapshot(let_go)
