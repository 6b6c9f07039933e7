"""The Lambda function: events in, predictions out. TensorFlow-free; all it knows of models comes from ``runtime``."""
