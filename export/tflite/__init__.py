"""Write the classifier as TFLite files: convert, quantise, add metadata, check operator versions."""
