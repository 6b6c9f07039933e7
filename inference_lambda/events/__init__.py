"""Parse Lambda events: S3, SQS, SNS, EventBridge, S3 Batch Operations, Step Functions, HTTP."""
