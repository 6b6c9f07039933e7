"""Build what is shipped: a minimal device folder, the Lambda zip, and the demo."""
