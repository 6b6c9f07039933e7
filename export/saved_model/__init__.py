"""Trace the Keras classifier into one graph and write it as a SavedModel."""
