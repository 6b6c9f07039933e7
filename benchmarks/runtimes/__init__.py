"""Benchmarks and tables of TFLite runtimes: compatibility, operator versions, variants."""
