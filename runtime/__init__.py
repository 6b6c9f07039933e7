"""The TensorFlow-free half: decode a photo, find, pull and verify a bundle, predict.

``from runtime import Predictor; Predictor.load("bundle/")("photo.jpg").label``
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    """Import NumPy and Pillow only for those who predict: the command line's help needs neither."""
    if name in __all__:
        import runtime.predictor

        return getattr(runtime.predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
