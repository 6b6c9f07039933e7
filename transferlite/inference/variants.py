"""The forms that a model is published in."""

SAVED_MODEL = "saved_model"
"""For TensorFlow Serving, whose ``--model_base_path`` this folder of a bundle is: the model itself is its version 1."""

FLOAT32, FLOAT16, DYNAMIC, INT8 = "float32", "float16", "dynamic", "int8"
TFLITE_VARIANTS = (FLOAT32, FLOAT16, DYNAMIC, INT8)
"""The TFLite files, each ``<name>.tflite``: as trained; weights of half the size; int8 weights; int8 throughout."""

VARIANT_HELP = f"Which TFLite file: {', '.join(TFLITE_VARIANTS)}."
"""Of the option ``--variant``."""


def batch_variant(variant: str, batch: int) -> str:
    """The name of a variant's file that takes a batch of photos at once: ``float32_batch8``."""
    return f"{variant}_batch{batch}"


def base_variant(variant: str) -> str:
    """The variant of whose kind a file is, whatever its batch: ``float32`` of ``float32_batch8``."""
    return variant.partition("_batch")[0]
