"""Minimal function with Pillow and TensorFlow, which loads a SavedModel."""

import os

import tensorflow as tf
from photo import batch, response

tf.config.threading.set_intra_op_parallelism_threads(int(os.environ["THREADS"]))
_model = tf.saved_model.load(os.environ["MODEL"])
_serve = _model.signatures["serving_default"]
(_input,) = _serve.structured_input_signature[1]


def handler(event, context):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, D103
    (output,) = _serve(**{_input: tf.constant(batch(event))}).values()
    return response(output.numpy()[0])
