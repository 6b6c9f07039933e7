"""Write the Keras classifier as a SavedModel."""
