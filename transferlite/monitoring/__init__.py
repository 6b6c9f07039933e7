"""Read prediction records and compare them with the validation photos (drift)."""
