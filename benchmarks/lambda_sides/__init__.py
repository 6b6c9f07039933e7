"""Minimal Lambda functions on other runtimes, 20 lines each, which ``benchmarks.lambda_peers`` compares with ours."""
