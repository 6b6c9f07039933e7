"""Read and write objects by key in local folders, memory, S3 and HTTPS shares, behind one protocol."""
