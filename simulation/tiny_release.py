"""Bundles of a few kilobytes with a TFLite model that really runs: the name of a photo's strongest colour."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.schema_py_generated import TensorType
from PIL import Image

from export.keras_to_tflite.operations import global_average, multiply_add
from export.tflite.tflite_writer import TFLiteWriter
from transferlite.images.input_spec import InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.self_test import SelfTest
from transferlite.registry.local_bundle import describe_files
from transferlite.registry.manifest import GOLDEN, LABELS, MANIFEST, Manifest, Variant

COLOURS = ("red", "green", "blue")
VARIANT = "float32"
_SIDE = 8
_FILE = f"{VARIANT}.tflite"


class _PixelWriter(TFLiteWriter):
    def pixels(self, shape: Sequence[int]) -> int:
        """Add a uint8 tensor: the input of a model that takes photos."""
        tensor = self.tensor(shape)
        self.model.subgraphs[0].tensors[tensor].type = TensorType.UINT8
        return tensor


def write_release(
    folder: Path, model_id: str, created_at: str, sharpness: float, *, is_wrong: bool = False
) -> Manifest:
    """Write a complete bundle; the larger ``sharpness``, the more certain the model.

    If ``is_wrong``, the self-test expects other probabilities than the model gives, as on a device whose runtime
    computes wrongly.
    """
    folder.mkdir(parents=True)
    (folder / _FILE).write_bytes(_model(sharpness))
    (folder / LABELS).write_text("".join(f"{colour}\n" for colour in COLOURS))
    probabilities = TFLiteClassifier(folder / _FILE, 1)(_image("red"))
    expected = probabilities[::-1] if is_wrong else probabilities
    (folder / GOLDEN).write_bytes(SelfTest((photo("red"),), {VARIANT: expected[None]}).to_json())
    manifest = Manifest(
        model_id=model_id,
        created_at=created_at,
        labels=COLOURS,
        input=InputSpec(_SIDE, _SIDE),
        backbone={"name": "mean colour"},
        training={},
        dataset={"photos": {}},
        metrics={"test": {"accuracy": 1.0, "log_loss": 0.0, "photos": 0}},
        variants={VARIANT: Variant(_FILE, (folder / _FILE).stat().st_size, "ai-edge-litert", 0, 1.0, 1.0, 0.0)},
        left_out={},
        software={},
        files=describe_files(folder),
        golden=GOLDEN,
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest


def photo(colour: str) -> bytes:
    """Encode a photo of one colour."""
    file = io.BytesIO()
    Image.fromarray(_image(colour)).save(file, "PNG")
    return file.getvalue()


def _image(colour: str) -> np.ndarray:
    image = np.full((_SIDE, _SIDE, 3), 20, np.uint8)
    image[..., COLOURS.index(colour)] = 230
    return image


def _model(sharpness: float) -> bytes:
    """Write a TFLite file: mean of each colour channel, scaled, then softmax."""
    writer = _PixelWriter()
    pixels = writer.pixels([1, _SIDE, _SIDE, 3])
    values = writer.operation("CAST", [pixels], [1, _SIDE, _SIDE, 3])
    scale, shift = np.full(1, sharpness / 255, np.float32), np.zeros(1, np.float32)
    scores = multiply_add(writer, global_average(writer, values), scale, shift)
    return writer.pack([pixels], [writer.operation("SOFTMAX", [scores], [1, 3], "SoftmaxOptions", beta=1.0)])
