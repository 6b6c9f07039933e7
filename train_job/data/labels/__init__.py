"""Read label files (CSV, JSON, Parquet) and match their rows to photos."""
