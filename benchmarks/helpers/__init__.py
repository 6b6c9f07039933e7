"""Code that several benchmarks share: photos, an S3 server, processes that take turns, sizes of the seed job."""
