"""The TensorFlow-free half: decode a photo, find, pull and verify a bundle, predict.

``from runtime import Predictor; Predictor.load("bundle/").predict("photo.jpg")``
"""

from runtime.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
