"""Sign manifests and channel pointers, and check their signatures, with local keys or AWS KMS keys."""
