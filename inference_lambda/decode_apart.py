"""Decode a photo in a process of its own: a photo that kills its decoder then harms no other photo.

``python -m inference_lambda.decode_apart HEIGHT WIDTH RESIZE`` reads a photo from standard input. It prints a line of
JSON with the ``code`` and ``message`` of a rejected photo, or an empty object, and then the pixels.
"""

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from transferlite.errors import PhotoError, TransferLiteError
from transferlite.images.input_spec import InputSpec

if TYPE_CHECKING:
    from transferlite.images.decoder import RGB

_LIMIT_SECONDS = 20.0
"""Time for one photo; the largest takes about 2 s of a full core."""


def decode_apart(data: bytes, spec: InputSpec) -> "RGB":
    """Decode like :func:`transferlite.images.decoder.decode`, in a child process.

    Raises:
        PhotoError: as ``decode``.
        TransferLiteError: the child died or took too long.
    """
    import numpy as np

    command = [sys.executable, "-m", __name__, str(spec.height), str(spec.width), spec.resize]
    # PYTHONSAFEPATH keeps the current folder, which -m would search first, off the child's path.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, env=environment, timeout=_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TransferLiteError(f"decoding takes longer than {_LIMIT_SECONDS:g} s") from None
    line, _, pixels = done.stdout.partition(b"\n")
    if done.returncode or not line:
        raise TransferLiteError(f"the decoder died (status {done.returncode})", hint="remove the photo")
    if rejection := json.loads(line):
        raise PhotoError(rejection["code"], rejection["message"])
    return np.frombuffer(pixels, np.uint8).reshape(spec.height, spec.width, 3)


def main() -> None:
    """Decode the photo on standard input."""
    from transferlite.images.decoder import decode

    spec = InputSpec(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    rejection: dict[str, str] = {}
    pixels = b""
    try:
        pixels = decode(sys.stdin.buffer.read(), spec).tobytes()
    except PhotoError as error:
        rejection = {"code": error.code, "message": error.message}
    sys.stdout.buffer.write(json.dumps(rejection).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
