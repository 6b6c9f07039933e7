"""Run published models with ``Predictor`` and find them with ``Registry``; no TensorFlow needed.

::

    from transferlite import Predictor

    predictor = Predictor.load("bundle/")
    print(predictor("photo.jpg").label)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transferlite.inference.prediction import Prediction as Prediction
    from transferlite.predict.predictor import Predictor as Predictor
    from transferlite.registry.open_registry import Registry as Registry

__version__ = "0.1.0"
__all__ = ["Prediction", "Predictor", "Registry"]

_MODULES = {
    "Prediction": "transferlite.inference.prediction",
    "Predictor": "transferlite.predict.predictor",
    "Registry": "transferlite.registry.open_registry",
}

if not TYPE_CHECKING:  # a type checker that sees __getattr__ accepts any name

    def __getattr__(name: str) -> Any:
        """Import a public class on first use, so that ``import transferlite`` loads neither NumPy nor Pillow."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
