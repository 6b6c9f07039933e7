"""Check that a ``.tflite`` file is an image classifier: its format, and the shapes of its input and output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transferlite.errors import NotClassifierError

FEATURES = "features"
"""Name of the second output of our files: the feature row ``[B, D]``."""
_HEAD_BYTES = 512
_OTHER_FORMATS = (
    (b"<", "an HTML or XML page"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"{", "a JSON file"),
    (b"PK\x03\x04", "a zip archive (.keras, .task)"),
    (b"\x89HDF", "an HDF5 file (Keras .h5)"),
)
"""First bytes of files that are often saved as ``.tflite`` by mistake."""
_HINT = "give the .tflite file of an image classifier"
_OUTPUT_TYPES = ("float32", "uint8", "int8")


def check_is_tflite(path: Path) -> None:
    """Raise NotClassifierError unless the file begins as a TFLite file; the message names other common formats."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise NotClassifierError(f"cannot be read ({error.strerror})", where=str(path), hint=_HINT) from error
    if head[4:8] == b"TFL3":
        return
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    formats = (f"{name}, " for start, name in _OTHER_FORMATS if text.startswith(start))
    other = next(formats, "") if head else "empty, "
    raise NotClassifierError(f"is {other}not a TFLite file", where=str(path), hint=_HINT)


def damaged_file_error(path: Path) -> NotClassifierError:
    """Return the error for a TFLite file whose structure is broken, for example because its end is missing."""
    return NotClassifierError("is a damaged or incomplete TFLite file", where=str(path), hint="copy it again")


Details = Mapping[str, Any]
"""What a runtime says of a tensor: its index, name, shape, type and quantisation."""


def check_classifier(interpreter: Any, where: str) -> tuple[Details, Details, Details | None]:
    """Return the details of a loaded model's input, of its scores, and of its feature row if it has that output too.

    Raises:
        NotClassifierError: the model has several inputs, or several outputs besides :data:`FEATURES`, its input is not
            ``[B, H, W, 3]`` with fixed H and W, or its output is not ``[B, N]`` with N of 2 or more. Further dimensions
            of 1 in the output are allowed.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    features = outputs[1] if len(outputs) == 2 and outputs[1]["name"] == FEATURES else None
    if len(inputs) == 1 and (len(outputs) == 1 or features is not None):
        source, target = _shape(inputs[0]), _shape(outputs[0])
        if _takes_photos(source) and _gives_scores(target, source[0]) and _type(outputs[0]) in _OUTPUT_TYPES:
            return inputs[0], outputs[0], features
    raise NotClassifierError(
        "is not an image classifier, which has one input [1, height, width, 3] and one output [1, classes]:"
        f" it has {_describe('input', inputs)} and {_describe('output', outputs)}",
        where=where,
        hint=_hint(inputs, outputs),
    )


def _shape(details: Mapping[str, Any]) -> list[int]:
    """Shape of a tensor; -1 for a dynamic side, except the batch, which is 1 if dynamic."""
    shape = [int(side) for side in details["shape"]]
    signature = [int(side) for side in details.get("shape_signature", ())]
    return shape[:1] + signature[1:] if len(signature) == len(shape) else shape


def _takes_photos(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and min(shape) > 0 and shape[3] == 3


def _gives_scores(shape: Sequence[int], batch: int) -> bool:
    sides = [1, *shape] if len(shape) == 1 else shape
    return len(sides) > 1 and sides[0] == batch and set(sides[1:-1]) <= {1} and sides[-1] > 1


def _type(details: Mapping[str, Any]) -> str:
    return str(np.dtype(details["dtype"]))


def _describe(kind: str, tensors: Sequence[Mapping[str, Any]]) -> str:
    """Describe tensors by shape and type, such as ``output [1, 64, 64, 3] float32``."""
    shapes = ([str(side) if side >= 0 else "?" for side in _shape(details)] for details in tensors)
    texts = [f"[{', '.join(shape)}] {_type(details)}" for shape, details in zip(shapes, tensors, strict=True)]
    return f"{kind} {texts[0]}" if len(texts) == 1 else f"{len(texts)} {kind}s {', '.join(texts)}"


def _hint(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> str:
    if len(inputs) == 1 and -1 in _shape(inputs[0]):
        return "convert it with a fixed height and width"
    if len(inputs) == 1 and len(_shape(inputs[0])) == 4 and _shape(inputs[0])[1] == 3:
        return "convert it with the channels last"
    if len(outputs) == 1 and _type(outputs[0]) not in _OUTPUT_TYPES:
        return "convert it with an output of float32, uint8 or int8 scores"
    return "models for detection, segmentation and regression are not supported"
