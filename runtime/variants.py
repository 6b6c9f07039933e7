"""The forms that a model is published in."""

SAVED_MODEL = "saved_model"
"""For TensorFlow Serving, whose ``--model_base_path`` this folder of a bundle is: the model itself is its version 1."""

FLOAT32, FLOAT16, DYNAMIC, INT8 = "float32", "float16", "dynamic", "int8"
TFLITE_VARIANTS = (FLOAT32, FLOAT16, DYNAMIC, INT8)
"""The TFLite files, each ``<name>.tflite``: as trained; weights of half the size; int8 weights; int8 throughout."""
