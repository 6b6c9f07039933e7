"""Predict photos from standard input, in this Python's TFLite runtime: ``python -m transferlite.predict.stdin_worker``.

So the export gate asks a runtime that cannot be installed beside TensorFlow. It takes NumPy and the runtime alone.

Lines and bytes: first a line of JSON, ``{"classes": C}`` or ``{"error": ...}``. Then for each request, a
line with the number of photos and their bytes (uint8 ``[N, H, W, 3]``), the answer is float32 ``[N, C]``.
"""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from transferlite.errors import TransferLiteError
from transferlite.inference.interpreter import TFLiteClassifier


def serve(path: Path, source: BinaryIO, target: BinaryIO) -> None:
    """Answer with the file at ``path`` until the source ends."""
    try:
        model = TFLiteClassifier(path, threads=1)
        told: dict[str, object] = {"classes": model.classes}
    except TransferLiteError as error:
        told = {"error": str(error)}
    target.write(json.dumps(told).encode() + b"\n")
    target.flush()
    while "error" not in told and (line := source.readline()):
        shape = (int(line), model.height, model.width, 3)
        photos = np.frombuffer(source.read(int(np.prod(shape))), np.uint8).reshape(shape)
        target.write(model.predict_batch(photos).tobytes())
        target.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
