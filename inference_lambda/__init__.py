"""Lambda function that labels photos: events in, predictions out. It imports ``transferlite`` and never TensorFlow."""
