"""Names of environment variables that several rooms read; the function's own are in inference_lambda/settings.py."""

PUBLIC_KEY = "TRANSFERLITE_PUBLIC_KEY"
"""Public key, PEM file or AWS KMS key that must have signed what is loaded."""

SIGNING_KEY = "TRANSFERLITE_SIGNING_KEY"
"""Private key, PEM file or AWS KMS key that signs what is published."""

CACHE = "TRANSFERLITE_CACHE"
"""Folder for local copies of remote models (default: ``~/.cache``)."""

MACHINE = "TRANSFERLITE_MACHINE"
"""Instance type that a training job runs on, such as ``g4dn.xlarge``, for its cost receipt."""

LEGACY_PYTHON = "TRANSFERLITE_LEGACY_PYTHON"
"""Python with tflite-runtime, in which the gate also runs the exported files."""

STACK = "TRANSFERLITE_STACK"
"""Name of the CloudFormation stack for ``transferlite cloud``."""

DEBUG = "TRANSFERLITE_DEBUG"
"""Print tracebacks when set, as ``--debug`` does."""
