"""Write a TFLite file operation by operation, in milliseconds, without TensorFlow's converter.

Source: the schema https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from export.tflite.tflite_file import Buffer, operator_code, read_tflite, write_tflite

_SCHEMA_VERSION = 3


class TFLiteWriter:
    """One float32 subgraph under construction. A tensor is its index in the file.

    Args:
        content: a file to append to; None starts an empty graph.

    Attributes:
        layer: name of the layer that the next operations compute; part of their tensors' names.
    """

    def __init__(self, content: bytes | None = None) -> None:
        self.model = _empty_model() if content is None else read_tflite(content)
        self.layer = ""
        (self._graph,) = self.model.subgraphs
        self._codes = {code.builtinCode: index for index, code in enumerate(self.model.operatorCodes)}

    @property
    def inputs(self) -> list[int]:
        """The graph's input tensors."""
        return [int(tensor) for tensor in self._graph.inputs]

    @property
    def outputs(self) -> list[int]:
        """The graph's output tensors."""
        return [int(tensor) for tensor in self._graph.outputs]

    def shape(self, tensor: int) -> list[int]:
        """The shape of a tensor."""
        return [int(side) for side in self._graph.tensors[tensor].shape]

    def tensor(self, shape: Sequence[int]) -> int:
        """Add a float32 tensor of that shape: an input of the graph, or an operation's output."""
        return self._add_tensor(shape, schema.TensorType.FLOAT32, 0)

    def constant(self, values: NDArray[Any]) -> int:
        """Add a constant: int32 for integer ``values``, otherwise float32."""
        kind = schema.TensorType.INT32 if values.dtype.kind == "i" else schema.TensorType.FLOAT32
        content = np.ascontiguousarray(values, np.int32 if values.dtype.kind == "i" else np.float32)
        self.model.buffers.append(Buffer(content.reshape(-1).view(np.uint8)))
        return self._add_tensor(values.shape, kind, len(self.model.buffers) - 1)

    def operation(
        self, code: str, inputs: Sequence[int], shape: Sequence[int], options: str = "", **settings: Any
    ) -> int:
        """Append an operation with one output; returns the output tensor.

        Args:
            code: name of the builtin operator, for example ``CONV_2D``.
            inputs: input tensors.
            shape: shape of the output.
            options: table of the schema that holds the ``settings``, for example ``Conv2DOptions``.
            **settings: fields of that table.
        """
        operator = schema.OperatorT(opcodeIndex=self._code(code), inputs=list(inputs))
        operator.outputs = [self.tensor(shape)]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for setting, value in settings.items():
                setattr(operator.builtinOptions, setting, value)
        self._graph.operators.append(operator)
        return int(operator.outputs[0])

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The finished file, with these tensors as the graph's inputs and outputs."""
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        return write_tflite(self.model)

    def _code(self, code: str) -> int:
        number = getattr(schema.BuiltinOperator, code)
        if number not in self._codes:
            self.model.operatorCodes.append(operator_code(code))
            self._codes[number] = len(self.model.operatorCodes) - 1
        return self._codes[number]

    def _add_tensor(self, shape: Sequence[int], kind: int, buffer: int) -> int:
        number = len(self._graph.tensors)
        name = f"{self.layer}/{number}" if self.layer else f"{number}"
        self._graph.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name))
        return number


def _empty_model() -> Any:
    graph = schema.SubGraphT(tensors=[], operators=[], name="main")
    buffers = [Buffer()]  # by convention the first is empty
    return schema.ModelT(version=_SCHEMA_VERSION, subgraphs=[graph], buffers=buffers, operatorCodes=[])
