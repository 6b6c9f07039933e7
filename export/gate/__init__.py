"""Run every exported variant on held-out photos and compare it with the Keras model."""
