"""Measure a trained head: metrics, calibration, abstention and cross-validation."""
