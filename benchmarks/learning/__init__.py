"""Benchmarks of what feature rows are searched for."""
