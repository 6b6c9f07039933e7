"""Publish a backbone with its own ImageNet classifier, without any training."""
