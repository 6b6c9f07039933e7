"""Predict the label of a photo: the predictor, its self-test, and explanations of predictions."""
