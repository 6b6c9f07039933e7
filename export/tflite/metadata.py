"""Write TFLite Metadata into a file: its input and output, its labels, and the version it belongs to.

MediaPipe Tasks and Android's tools read it, and ``transferlite/inference/tflite_metadata.py``, which explains the
fields.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.tflite.tflite_file import Buffer, read_tflite, write_tflite
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.inference.tflite_metadata import ABOUT_FILE, METADATA_NAME, Kind, Slot
from transferlite.registry.manifest import LABELS

_IDENTIFIER = b"M001"
_MIN_PARSER = "1.0.0"
"""Oldest version of the schema with all fields that are used here."""
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of the archive's entries, always the same so that equal models are equal files."""

Value = str | np.generic | Mapping[int, Any] | Sequence[Any]
"""A string, a NumPy number, a table (its values by slot), or a vector of floats or of tables."""


@dataclass(frozen=True)
class ModelInfo:
    """Description of a model, stored in its TFLite files.

    Attributes:
        model_id: id of its version.
        created_at: creation time in ISO format.
        backbone: name of its backbone.
        labels: class names, in the order of the outputs.
        input: input size; the input is uint8 RGB ``[1, H, W, 3]``.
        threshold: probability below which the prediction is ``unknown``; 0 for none.
        release: version of TransferLite that made it.
    """

    model_id: str
    created_at: str
    backbone: str
    labels: tuple[str, ...]
    input: InputSpec
    threshold: float = 0.0
    release: str = ""

    def to_json(self) -> bytes:
        """The archive's entry :data:`~transferlite.inference.tflite_metadata.ABOUT_FILE`."""
        identity = {"model_id": self.model_id, "created_at": self.created_at, "backbone": self.backbone}
        made_by = {"transferlite": self.release} if self.release else {}
        decoding = {"decoder_version": DECODER_VERSION, "resize": self.input.resize, "threshold": self.threshold}
        return json.dumps(identity | made_by | decoding, indent=2).encode() + b"\n"


def add_metadata(path: Path, info: ModelInfo) -> None:
    """Add metadata to the TFLite file at ``path``, which has none, and append the archive with the labels."""
    model = read_tflite(path.read_bytes())
    model.buffers.append(Buffer(np.frombuffer(_flatbuffer(_model(info)), np.uint8)))
    model.metadata = [*(model.metadata or []), schema.MetadataT(METADATA_NAME, len(model.buffers) - 1)]
    labels = "".join(f"{label}\n" for label in info.labels).encode()
    path.write_bytes(write_tflite(model) + _archive({LABELS: labels, ABOUT_FILE: info.to_json()}))


def _model(info: ModelInfo) -> Mapping[int, Value]:
    size = f"{info.input.height}x{info.input.width}"
    shown = ", ".join(info.labels[:10]) + (", …" if len(info.labels) > 10 else "")
    return {
        Slot.MODEL_NAME: "TransferLite image classifier",
        Slot.MODEL_DESCRIPTION: (
            f"Classifies photos into {len(info.labels)} classes: {shown}. Model {info.model_id} on {info.backbone},"
            f" made {info.created_at}. Input: uint8 RGB of {size}, the upright photo resized bicubically"
            f" ({info.input.resize}, photo decoder {DECODER_VERSION}), not normalised."
        ),
        Slot.MODEL_VERSION: info.model_id,
        Slot.MODEL_SUBGRAPHS: [
            {Slot.GRAPH_INPUTS: [_image()], Slot.GRAPH_OUTPUTS: [_probabilities(info.threshold), _features()]}
        ],
        Slot.MODEL_FILES: [
            _file(ABOUT_FILE, "Model id, photo decoder and threshold, as JSON.", Kind.FILE_DESCRIPTIONS)
        ],
        Slot.MODEL_MIN_PARSER: _MIN_PARSER,
    }


def _image() -> Mapping[int, Value]:
    normalisation = {Slot.NORMALISATION_MEAN: [0.0], Slot.NORMALISATION_STD: [1.0]}
    return {
        Slot.TENSOR_NAME: "image",
        Slot.TENSOR_DESCRIPTION: "The photo: RGB pixels from 0 to 255, not normalised.",
        Slot.TENSOR_CONTENT: {
            Slot.CONTENT_TYPE: np.uint8(Kind.CONTENT_IMAGE),
            Slot.CONTENT: {Slot.IMAGE_COLOURS: np.int8(Kind.COLOURS_RGB)},
        },
        Slot.TENSOR_UNITS: [_unit(Kind.UNIT_NORMALISATION, normalisation)],
        Slot.TENSOR_STATS: {Slot.STATS_MAX: [255.0], Slot.STATS_MIN: [0.0]},
    }


def _probabilities(threshold: float) -> Mapping[int, Value]:
    thresholding = {Slot.THRESHOLDING_SCORE: np.float32(threshold)}
    return {
        Slot.TENSOR_NAME: "probabilities",
        Slot.TENSOR_DESCRIPTION: "The calibrated probability of each label.",
        Slot.TENSOR_CONTENT: {Slot.CONTENT_TYPE: np.uint8(Kind.CONTENT_FEATURES), Slot.CONTENT: {}},
        Slot.TENSOR_UNITS: [_unit(Kind.UNIT_THRESHOLDING, thresholding)] if threshold else [],
        Slot.TENSOR_STATS: {Slot.STATS_MAX: [1.0], Slot.STATS_MIN: [0.0]},
        Slot.TENSOR_FILES: [_file(LABELS, "The labels, one per line.", Kind.FILE_AXIS_LABELS)],
    }


def _features() -> Mapping[int, Value]:
    return {
        Slot.TENSOR_NAME: "features",
        Slot.TENSOR_DESCRIPTION: "The feature row: the backbone's pooled output, from which the head predicts.",
        Slot.TENSOR_CONTENT: {Slot.CONTENT_TYPE: np.uint8(Kind.CONTENT_FEATURES), Slot.CONTENT: {}},
    }


def _unit(kind: int, options: Mapping[int, Any]) -> Mapping[int, Value]:
    return {Slot.UNIT_TYPE: np.uint8(kind), Slot.UNIT: options}


def _file(name: str, description: str, kind: int) -> Mapping[int, Value]:
    return {Slot.FILE_NAME: name, Slot.FILE_DESCRIPTION: description, Slot.FILE_TYPE: np.int8(kind)}


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Make a zip archive without compression, which MediaPipe requires."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as entries:
        for name, content in files.items():
            entries.writestr(zipfile.ZipInfo(name, _FIXED_DATE), content)
    return archive.getvalue()


def _flatbuffer(root: Mapping[int, Value]) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, root), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, fields: Mapping[int, Value]) -> int:
    """Write a table, after everything it refers to; returns its offset."""
    written = {slot: _offset_or_number(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in written.items():
        if isinstance(value, np.generic):
            prepend = {"u1": builder.PrependUint8Slot, "i1": builder.PrependInt8Slot, "f4": builder.PrependFloat32Slot}
            prepend[value.dtype.str[1:]](slot, value.item(), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def _offset_or_number(builder: Any, value: Value) -> Any:
    """Write a string, table or vector and return its offset; return a number unchanged."""
    if isinstance(value, np.generic):
        return value
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, Mapping):
        return _table(builder, value)
    return _vector(builder, value)


def _vector(builder: Any, value: Sequence[Any]) -> Any:
    if value and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    offsets = [_table(builder, fields) for fields in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
