"""Compare TFLite runtimes: predictions (``compatibility``), operator versions, and size and time of the variants."""
