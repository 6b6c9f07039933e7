"""Benchmarks of head training."""
