"""Decode files in limited children and measure each child's peak memory above its start.

``python -m benchmarks.sides.decoding_memory_side FUNCTION_MB SIDE FILE...`` prints a list of
``{"code", "message", "mib"}`` as JSON. The budget is that of a function of this size.
"""

import json
import os
import resource
import sys
from pathlib import Path

from transferlite.errors import PhotoError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.inference.memory_budget import decoding_budget

_SLACK = 192 * 2**20
"""Address space beside the budget: stacks of the codecs' threads, libraries mapped from their files."""


def main() -> None:
    """Decode each file in a child."""
    os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = sys.argv[1]
    spec = InputSpec(int(sys.argv[2]), int(sys.argv[2]))
    decode(b"P6 8 8 255\n" + bytes(192), spec)
    print(json.dumps([_measured(path, spec) for path in sys.argv[3:]]))


def _measured(path: str, spec: InputSpec) -> dict[str, object]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(_decode(path, spec)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return dict(json.loads(text)) if status == 0 else {"code": "crash", "message": f"status {status}", "mib": 0.0}


def _decode(path: str, spec: InputSpec) -> dict[str, object]:
    budget = decoding_budget().limit
    limit = _status("VmSize") * 1024 + budget + _SLACK
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    start, code, message = _status("VmRSS"), "", ""
    try:
        decode(Path(path).read_bytes(), spec)
    except PhotoError as error:
        code, message = error.code, error.message
    except Exception as error:
        code, message = type(error).__name__, str(error)
    return {"code": code, "message": message, "mib": (_status("VmHWM") - start) / 1024}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
