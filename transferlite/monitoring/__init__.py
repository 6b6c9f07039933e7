"""Read the Lambda function's records and compare them with the validation photos (drift)."""
