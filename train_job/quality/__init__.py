"""Find problems in the data: duplicates, near-duplicates, label issues and unusual photos."""
