"""Run one TFLite file: the interpreter, its input normalisation, its metadata, its variants."""
