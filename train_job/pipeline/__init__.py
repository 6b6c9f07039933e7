"""The training job, step by step: read data, train, export, compare, report, publish."""
