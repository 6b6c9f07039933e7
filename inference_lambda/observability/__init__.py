"""JSON log lines, CloudWatch metrics and X-Ray segments."""
