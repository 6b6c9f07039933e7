"""Tests of the benchmarks' own code: generated photos, processes, tables and calculations."""
