"""Variants of a published model and the names of their files."""

SAVED_MODEL = "saved_model"
"""SavedModel folder of a bundle, for TensorFlow Serving's ``--model_base_path``; the model is its version 1."""

FLOAT32, FLOAT16, DYNAMIC, INT8 = "float32", "float16", "dynamic", "int8"
TFLITE_VARIANTS = (FLOAT32, FLOAT16, DYNAMIC, INT8)
"""TFLite variants, each a file ``<name>.tflite``: float32; float16 weights; int8 weights; int8 throughout."""

AUTO = "auto"
"""Name for the variant that the version's manifest chooses."""

VARIANT_HELP = f"TFLite variant: {', '.join(TFLITE_VARIANTS)}, or {AUTO} for the one that the gate chose."
"""Help text of the option ``--variant``."""


def batch_variant(variant: str, batch: int) -> str:
    """Return the name of a variant's file with a fixed batch size, such as ``float32_batch8``."""
    return f"{variant}_batch{batch}"


def base_variant(variant: str) -> str:
    """Strip the batch size from a variant's name: ``float32_batch8`` -> ``float32``."""
    return variant.partition("_batch")[0]
