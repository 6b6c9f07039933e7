"""Run a TFLite file: interpreter, input normalisation, TFLite metadata and variants."""
