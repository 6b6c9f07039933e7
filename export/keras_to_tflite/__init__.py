"""Translate a Keras feature model into a TFLite file, layer by layer."""
