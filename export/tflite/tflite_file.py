"""Read, change and write TFLite files as objects of the FlatBuffers schema.

Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_IDENTIFIER = b"TFL3"
_SPARE_BYTES = 2**20

IMAGE, PROBABILITIES, FEATURES, SERVE = "image", "probabilities", "features", "serving_default"
"""Names of a model's input, outputs and signature, in TFLite files as in the SavedModel."""


class Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer aligned to 16 bytes, as kernels expect of their weights."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that the generated code calls
        """Write the buffer; returns its offset."""
        data = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), 16)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data.tobytes()
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def read_tflite(content: bytes) -> Any:
    """Parse a file into the schema's ``ModelT``."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for index, buffer in enumerate(model.buffers):
        model.buffers[index] = Buffer(buffer.data)
    return model


def write_tflite(model: Any) -> bytes:
    """Serialise a model whose buffers are :class:`Buffer`."""
    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + _SPARE_BYTES)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def operator_code(name: str, version: int = 1) -> Any:
    """The operator code of the built-in operation ``name``."""
    number = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version)


def constant(model: Any, tensor: Any) -> NDArray[np.float32] | None:
    """Values of a float32 constant, in its shape; None for any other tensor."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None:
        return None
    return np.asarray(data).view(np.float32).reshape([int(side) for side in tensor.shape])


def set_constant(model: Any, tensor: Any, values: NDArray[Any], kind: int) -> None:
    """Replace the values of a constant by ``values`` of the schema's type ``kind``; free its old buffer if unused."""
    old, new = tensor.buffer, Buffer(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    model.buffers.append(new)
    tensor.buffer, tensor.type = len(model.buffers) - 1, kind
    if all(other.buffer != old for graph in model.subgraphs for other in graph.tensors):
        model.buffers[old].data = None


def set_signature(model: Any, key: str, input_name: str, output_names: Sequence[str]) -> None:
    """Name the model's input and outputs, and make them the signature ``key``."""
    (graph,) = model.subgraphs
    maps = []
    for names, tensors in (([input_name], graph.inputs), (output_names, graph.outputs)):
        for name, tensor in zip(names, tensors, strict=True):
            graph.tensors[tensor].name = name
        maps.append([schema.TensorMapT(name, int(tensor)) for name, tensor in zip(names, tensors, strict=True)])
    model.signatureDefs = [schema.SignatureDefT(*maps, signatureKey=key, subgraphIndex=0)]


def add_uint8_input(model: Any) -> None:
    """Replace the float input of a model by a uint8 one, which a new first operation casts to float."""
    (graph,) = model.subgraphs
    (pixels,) = graph.inputs
    image = schema.TensorT(shape=graph.tensors[pixels].shape, type=schema.TensorType.UINT8, buffer=0, name="uint8")
    image.quantization = schema.QuantizationParametersT()
    graph.tensors.append(image)
    model.operatorCodes.append(operator_code("CAST"))
    cast = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=[len(graph.tensors) - 1], outputs=[pixels])
    cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
    cast.builtinOptions = schema.CastOptionsT(schema.TensorType.UINT8, schema.TensorType.FLOAT32)
    graph.operators.insert(0, cast)
    graph.inputs = cast.inputs


def set_batch_size(model: Any, batch: int) -> None:
    """Change the batch size of a model from 1 to ``batch``: in the shapes of all computed tensors and of RESHAPE.

    Assumes that the batch is the first dimension. Where an operation needs it elsewhere, the file does not load or
    fails the gate.
    """
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        if model.buffers[tensor.buffer].data is None and len(tensor.shape) > 1 and tensor.shape[0] == 1:
            tensor.shape = np.array([batch, *tensor.shape[1:]], np.int32)
            tensor.shapeSignature = None
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.RESHAPE:
            shape = graph.tensors[operator.inputs[1]]
            sides = np.asarray(model.buffers[shape.buffer].data).view(np.int32).copy()
            if sides[0] == 1:
                sides[0] = batch
                set_constant(model, shape, sides, schema.TensorType.INT32)
            operator.builtinOptions, operator.builtinOptionsType = None, 0


def activation_tensors(model: Any) -> list[int]:
    """Indices of the float32 tensors that are not constants: the input and all computed tensors."""
    return [
        index
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == schema.TensorType.FLOAT32 and model.buffers[tensor.buffer].data is None
    ]


def set_range(model: Any, tensor: int, low: float, high: float) -> None:
    """Store the range of a tensor's values, for the quantiser."""
    limits = schema.QuantizationParametersT(min=np.array([low], np.float32), max=np.array([high], np.float32))
    model.subgraphs[0].tensors[tensor].quantization = limits
