"""Benchmarks of training the head on feature rows."""
