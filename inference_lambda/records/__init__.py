"""Read a photo from S3, write its prediction record, and add tags, events and log lines."""
