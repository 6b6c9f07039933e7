"""Write TFLite Metadata into a file: what it takes and answers, its labels, and which model it is.

MediaPipe Tasks and Android's tools read it; what each field is for: transferlite/inference/tflite_metadata.py, which
reads it too."""

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
from transferlite.inference.tflite_metadata import ABOUT, BUFFER, Kind, Slot
from transferlite.registry.manifest import LABELS

_IDENTIFIER = b"M001"
_MIN_PARSER = "1.0.0"
"""The schema's first version has every field that is used here."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of each entry of the archive: the same model is the same file whenever it is made."""

Value = str | np.generic | Mapping[int, Any] | Sequence[Any]
"""A text, a NumPy number, a table as its values by slot, or a vector of floats or of tables."""


@dataclass(frozen=True)
class ModelInfo:
    """What a file is told of itself.

    Attributes:
        model_id: the version that it belongs to.
        created_at: when that was made, in ISO form.
        backbone: the name of its base.
        labels: one for each output.
        input: what it takes, as uint8 RGB ``[1, H, W, 3]``.
        threshold: the probability below which the answer is ``unknown``; 0 for none.
        release: of TransferLite, that made it.
    """

    model_id: str
    created_at: str
    backbone: str
    labels: tuple[str, ...]
    input: InputSpec
    threshold: float = 0.0
    release: str = ""

    def to_json(self) -> bytes:
        """The archive's entry :data:`~transferlite.inference.tflite_metadata.ABOUT`."""
        known = {"model_id": self.model_id, "created_at": self.created_at, "backbone": self.backbone}
        made_by = {"transferlite": self.release} if self.release else {}
        reading = {"decoder_version": DECODER_VERSION, "resize": self.input.resize, "threshold": self.threshold}
        return json.dumps(known | made_by | reading, indent=2).encode() + b"\n"


def add_metadata(path: Path, about: ModelInfo) -> None:
    """Write the metadata into the TFLite file at ``path``, which has none, and the archive behind it."""
    model = read_tflite(path.read_bytes())
    model.buffers.append(Buffer(np.frombuffer(_flatbuffer(_model(about)), np.uint8)))
    model.metadata = [*(model.metadata or []), schema.MetadataT(BUFFER, len(model.buffers) - 1)]
    labels = "".join(f"{label}\n" for label in about.labels).encode()
    path.write_bytes(write_tflite(model) + _archive({LABELS: labels, ABOUT: about.to_json()}))


def _model(about: ModelInfo) -> Mapping[int, Value]:
    size = f"{about.input.height}x{about.input.width}"
    shown = ", ".join(about.labels[:10]) + (", …" if len(about.labels) > 10 else "")
    return {
        Slot.MODEL_NAME: "TransferLite image classifier",
        Slot.MODEL_DESCRIPTION: (
            f"Tells {len(about.labels)} kinds of photo apart: {shown}. Model {about.model_id} on {about.backbone}, made"
            f" {about.created_at}. It takes uint8 RGB of {size}, the whole upright photo resized ({about.input.resize},"
            f" photo decoder {DECODER_VERSION}); the normalisation is inside."
        ),
        Slot.MODEL_VERSION: about.model_id,
        Slot.MODEL_SUBGRAPHS: [{Slot.GRAPH_INPUTS: [_image()], Slot.GRAPH_OUTPUTS: [_probabilities(about.threshold)]}],
        Slot.MODEL_FILES: [_file(ABOUT, "Model id, photo decoder and threshold, as JSON.", Kind.FILE_DESCRIPTIONS)],
        Slot.MODEL_MIN_PARSER: _MIN_PARSER,
    }


def _image() -> Mapping[int, Value]:
    normalisation = {Slot.NORMALISATION_MEAN: [0.0], Slot.NORMALISATION_STD: [1.0]}
    return {
        Slot.TENSOR_NAME: "image",
        Slot.TENSOR_DESCRIPTION: "The photo: RGB pixels from 0 to 255, as they are.",
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
        Slot.TENSOR_FILES: [_file(LABELS, "The labels, one a line.", Kind.FILE_AXIS_LABELS)],
    }


def _unit(kind: int, options: Mapping[int, Any]) -> Mapping[int, Value]:
    return {Slot.UNIT_TYPE: np.uint8(kind), Slot.UNIT: options}


def _file(name: str, description: str, kind: int) -> Mapping[int, Value]:
    return {Slot.FILE_NAME: name, Slot.FILE_DESCRIPTION: description, Slot.FILE_TYPE: np.int8(kind)}


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive without compression, as MediaPipe reads it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as entries:
        for name, content in files.items():
            entries.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
    return archive.getvalue()


def _flatbuffer(root: Mapping[int, Value]) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, root), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, fields: Mapping[int, Value]) -> int:
    """Write a table, what it refers to first; returns where it is."""
    written = {slot: _referred(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in written.items():
        if isinstance(value, np.generic):
            prepend = {"u1": builder.PrependUint8Slot, "i1": builder.PrependInt8Slot, "f4": builder.PrependFloat32Slot}
            prepend[value.dtype.str[1:]](slot, value.item(), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(builder.EndObject())


def _referred(builder: Any, value: Value) -> Any:
    """Write what does not lie in a table itself, and return where it is; a number is returned as it is."""
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
    places = [_table(builder, one) for one in value]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
