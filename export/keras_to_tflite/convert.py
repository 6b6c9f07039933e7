"""Convert a classifier to TFLite: join a head to the backbone's file, which is made once for a frozen backbone."""

from typing import Any

from export.keras_to_tflite.translate_model import append_head, translate_head
from export.tflite.metadata import ModelInfo
from export.tflite.quantise import Calibration, set_ranges
from export.tflite.write_variants import Converted


def convert(
    backbone: bytes, head: Any, calibration: Calibration | None = None, model_info: ModelInfo | None = None
) -> Converted:
    """Join a backbone and a head.

    Args:
        backbone: a float32 file from float RGB 0 to 255 ``[1, H, W, 3]`` to feature rows ``[1, D]``.
        head: a Keras model from feature rows ``[N, D]`` to probabilities ``[N, C]``.
        calibration: ranges of the backbone's activations, needed for int8.
        model_info: metadata for each variant's file, if any.

    Raises:
        GateError: an activation of the head is not a finite number.
    """
    content = append_head(backbone, head)
    if calibration is None:
        return Converted(content, None, model_info)
    ranges = calibration.with_head(translate_head(head))
    return Converted(content, set_ranges(content, ranges), model_info)
