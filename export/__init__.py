"""A trained Keras classifier in, a bundle out: SavedModel and TFLite files, each run and compared before it counts."""
