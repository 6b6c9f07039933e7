"""Train a model on labelled photos and publish it. Only this package and ``export`` use TensorFlow."""
