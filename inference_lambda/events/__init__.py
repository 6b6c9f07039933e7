"""Lambda events: parse each source's format, and build the reply that the source expects.

A source ``<name>.py`` parses; ``<name>_reply.py`` replies: s3 (with SNS and EventBridge), sqs, batch_operations,
distributed_map and http. ``parse.py`` picks the parser, ``outcomes.py`` maps errors to outcomes for all sources.
"""
