"""Predict photos read from standard input: ``python -m transferlite.predict.stdin_worker FILE.tflite``.

The export gate uses it to run a file in a Python whose runtime cannot be installed next to TensorFlow. It needs NumPy
and that runtime only.

Protocol: the worker first writes one JSON line, ``{"classes": C}`` or ``{"error": ...}``. For each request, a line with
the number of photos N followed by their bytes (uint8 ``[N, H, W, 3]``), it writes float32 ``[N, C]``.
"""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from transferlite.errors import TransferLiteError
from transferlite.inference.interpreter import TFLiteClassifier


def serve(path: Path, source: BinaryIO, target: BinaryIO) -> None:
    """Load the TFLite file at ``path`` and answer requests until ``source`` ends."""
    try:
        model = TFLiteClassifier(path, threads=1)
    except TransferLiteError as error:
        _write_line(target, {"error": str(error)})
        return
    _write_line(target, {"classes": model.classes})
    while line := source.readline():
        shape = (int(line), model.height, model.width, 3)
        images = np.frombuffer(source.read(int(np.prod(shape))), np.uint8).reshape(shape)
        target.write(model.predict_batch(images).tobytes())
        target.flush()


def _write_line(target: BinaryIO, message: dict[str, object]) -> None:
    target.write(json.dumps(message).encode() + b"\n")
    target.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
