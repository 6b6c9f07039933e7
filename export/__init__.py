"""Export a trained Keras classifier: write a SavedModel and TFLite files, and check them in the gate."""
