"""Names of environment variables that several packages read.

The inference function's own variables are in ``inference_lambda/settings.py``.
"""

PUBLIC_KEY = "TRANSFERLITE_PUBLIC_KEY"
"""Public key (PEM file, PEM text, base64 DER or AWS KMS key) that must have signed every model that is loaded."""

SIGNING_KEY = "TRANSFERLITE_SIGNING_KEY"
"""Private key (PEM file or AWS KMS key) that signs published models and channel pointers."""

CACHE = "TRANSFERLITE_CACHE"
"""Folder for local copies of remote models (default: ``~/.cache``)."""

MACHINE = "TRANSFERLITE_MACHINE"
"""Instance type of the training job, such as ``g4dn.xlarge``; its cost report needs the price."""

LEGACY_PYTHON = "TRANSFERLITE_LEGACY_PYTHON"
"""Python executable with tflite-runtime, with which the gate also runs the exported files."""

STACK = "TRANSFERLITE_STACK"
"""Name of the CloudFormation stack for ``transferlite cloud``."""

DEBUG = "TRANSFERLITE_DEBUG"
"""Print tracebacks when set, like ``--debug``."""
