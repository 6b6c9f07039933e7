"""Minimal function with Pillow and onnxruntime."""

import os

import onnxruntime
from photo import batch, response

_options = onnxruntime.SessionOptions()
_options.intra_op_num_threads = int(os.environ["THREADS"])
_session = onnxruntime.InferenceSession(os.environ["MODEL"], _options, providers=["CPUExecutionProvider"])
_input = _session.get_inputs()[0].name


def handler(event, context):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, D103
    return response(_session.run(None, {_input: batch(event)})[0][0])
