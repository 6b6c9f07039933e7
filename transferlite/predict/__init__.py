"""Photo in, label out: the predictor, its self-test, and explanations of predictions."""
