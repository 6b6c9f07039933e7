"""Benchmarks: each measures all its sides in one run, by turns, and prints their ratios.

``python -m benchmarks.NAME`` runs one; ``docs/benchmarks.md`` has the results. Subfolders: ``head`` (training the
head), ``runtimes`` (TFLite files on other runtimes), ``sides`` and ``lambda_sides`` (programs that a benchmark starts),
``helpers`` (shared code).
"""
