"""moto's S3 and SQS in a separate process, with one queue call at a time.

moto's queues are not thread-safe: if two threads move or delete a message at once, it is lost or the server fails.
``python -m tests.inference_lambda.queue_server`` prints the server's address and runs until it is killed.
"""

import logging
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

CALLS = (
    "send_message",
    "send_message_batch",
    "receive_message",
    "delete_message",
    "change_message_visibility",
    "get_queue_attributes",
)


def main() -> None:
    """Run the server. No call may wait for messages, as it would block all others."""
    lock = threading.RLock()
    for name in CALLS:
        setattr(SQSBackend, name, _one_at_a_time(getattr(SQSBackend, name), lock))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    threading.Event().wait()


def _one_at_a_time(call: Callable[..., Any], lock: threading.RLock) -> Callable[..., Any]:
    @wraps(call)
    def locked(*arguments: Any, **options: Any) -> Any:
        with lock:
            return call(*arguments, **options)

    return locked


if __name__ == "__main__":
    main()
