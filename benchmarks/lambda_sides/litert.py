"""Minimal function with Pillow and a bare TFLite interpreter: the floor."""

import os

from ai_edge_litert.interpreter import Interpreter
from photo import batch, response

_interpreter = Interpreter(model_path=os.environ["MODEL"], num_threads=int(os.environ["THREADS"]))
_interpreter.allocate_tensors()
_input = _interpreter.get_input_details()[0]["index"]
_output = _interpreter.get_output_details()[0]["index"]


def handler(event, context):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, D103
    _interpreter.set_tensor(_input, batch(event))
    _interpreter.invoke()
    return response(_interpreter.get_tensor(_output)[0])
