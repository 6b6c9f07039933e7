"""Decode photos: bytes to upright RGB pixels, and the rules for finding photo files."""
