"""Programs that a benchmark starts as separate processes, one per side."""
