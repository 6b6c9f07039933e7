"""TFLite files as objects: read one, change it, write it again.

Source: the schema https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_IDENTIFIER = b"TFL3"
_SPARE_BYTES = 2**20


class Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose content begins at a multiple of 16 bytes, as kernels expect of their weights."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that the generated code calls
        """Write the buffer; returns where it is."""
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
    """The file as the schema's ``ModelT``."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for number, buffer in enumerate(model.buffers):
        model.buffers[number] = Buffer(buffer.data)
    return model


def write_tflite(model: Any) -> bytes:
    """The content of a file, whose buffers are :class:`Buffer`."""
    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + _SPARE_BYTES)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def operator_code(name: str, version: int = 1) -> Any:
    """The builtin operation ``name``."""
    number = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version)


def constant(model: Any, tensor: Any) -> NDArray[np.float32] | None:
    """The values of a float32 constant, in its shape; None of any other tensor."""
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None:
        return None
    return np.asarray(data).view(np.float32).reshape([int(side) for side in tensor.shape])


def set_constant(model: Any, tensor: Any, values: NDArray[Any], kind: int) -> None:
    """Give a constant other values, of the schema's type ``kind``. What it had goes with its last user."""
    old, new = tensor.buffer, Buffer(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    model.buffers.append(new)
    tensor.buffer, tensor.type = len(model.buffers) - 1, kind
    if all(other.buffer != old for graph in model.subgraphs for other in graph.tensors):
        model.buffers[old].data = None


def name_ends(model: Any, key: str, image: str, answer: str) -> None:
    """Name the only input and the only output, and describe both by the signature ``key``."""
    (graph,) = model.subgraphs
    (source,), (target,) = graph.inputs, graph.outputs
    graph.tensors[source].name, graph.tensors[target].name = image, answer
    maps = [[schema.TensorMapT(name, int(tensor))] for name, tensor in ((image, source), (answer, target))]
    model.signatureDefs = [schema.SignatureDefT(*maps, signatureKey=key, subgraphIndex=0)]


def take_uint8(model: Any) -> None:
    """Give a model on float pixels an input of uint8 pixels, which its first operation casts."""
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


def take_batch(model: Any, count: int) -> None:
    """Make a model on a batch of one take ``count`` photos at once: the shapes of what it computes, and of reshapings.

    An operation that holds its batch elsewhere gives a file that cannot be loaded, or answers otherwise.
    """
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        if model.buffers[tensor.buffer].data is None and len(tensor.shape) > 1 and tensor.shape[0] == 1:
            tensor.shape = np.array([count, *tensor.shape[1:]], np.int32)
            tensor.shapeSignature = None
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.RESHAPE:
            shape = graph.tensors[operator.inputs[1]]
            sides = np.asarray(model.buffers[shape.buffer].data).view(np.int32).copy()
            if sides[0] == 1:
                sides[0] = count
                set_constant(model, shape, sides, schema.TensorType.INT32)
            operator.builtinOptions, operator.builtinOptionsType = None, 0


def activations(model: Any) -> list[int]:
    """The numbers of the float32 tensors that are computed or given, and not constant."""
    return [
        number
        for number, tensor in enumerate(model.subgraphs[0].tensors)
        if tensor.type == schema.TensorType.FLOAT32 and model.buffers[tensor.buffer].data is None
    ]


def set_range(model: Any, tensor: int, low: float, high: float) -> None:
    """Note from where to where the values of a tensor go, for a quantiser to read."""
    noted = schema.QuantizationParametersT(min=np.array([low], np.float32), max=np.array([high], np.float32))
    model.subgraphs[0].tensors[tensor].quantization = noted
