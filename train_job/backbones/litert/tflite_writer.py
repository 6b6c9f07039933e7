"""Write a TFLite file operation by operation, in milliseconds, without the converter.

Source: the schema https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from export.tflite.tflite_file import Buffer, operator_code, write_tflite

_SCHEMA_VERSION = 3


class TFLiteWriter:
    """One float32 subgraph under construction. A tensor is its index in the file."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [Buffer()]  # by convention the first is empty
        self._operators: list[Any] = []
        self._codes: dict[str, int] = {}

    def shape(self, tensor: int) -> list[int]:
        """The shape of a tensor."""
        return list(self._tensors[tensor].shape)

    def tensor(self, shape: Sequence[int]) -> int:
        """Add a float32 tensor of that shape: an input of the graph, or an operation's output."""
        return self._add_tensor(shape, schema.TensorType.FLOAT32, 0)

    def constant(self, values: NDArray[Any]) -> int:
        """Add a constant: int32 for integer ``values``, otherwise float32."""
        kind = schema.TensorType.INT32 if values.dtype.kind == "i" else schema.TensorType.FLOAT32
        content = np.ascontiguousarray(values, np.int32 if values.dtype.kind == "i" else np.float32)
        buffer = Buffer()
        buffer.data = content.reshape(-1).view(np.uint8)
        self._buffers.append(buffer)
        return self._add_tensor(values.shape, kind, len(self._buffers) - 1)

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
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs = list(inputs)
        operator.outputs = [self.tensor(shape)]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in settings.items():
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)
        return int(operator.outputs[0])

    def pack(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The finished file, with these tensors as the graph's inputs and outputs."""
        graph = schema.SubGraphT(tensors=self._tensors, operators=self._operators, name="main")
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT(version=_SCHEMA_VERSION, subgraphs=[graph], buffers=self._buffers)
        model.operatorCodes = [operator_code(code) for code in self._codes]
        return write_tflite(model)

    def _add_tensor(self, shape: Sequence[int], kind: int, buffer: int) -> int:
        name = f"t{len(self._tensors)}"
        self._tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name))
        return len(self._tensors) - 1
