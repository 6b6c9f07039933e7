"""The stack of ``tests/template``, for the tests of ``transferlite cloud``."""

from tests.template.conftest import batch, machine, photos, stack

__all__ = ["batch", "machine", "photos", "stack"]
