"""Sign documents and check signatures: local keys, AWS KMS keys and the public keys a device accepts."""
