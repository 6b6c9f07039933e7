"""Exceptions that Pillow raises for damaged files."""

import struct
import zlib

PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, ArithmeticError, AttributeError),
    *(AssertionError, NotImplementedError, EOFError, BufferError, RuntimeError, struct.error, zlib.error),
)
"""Exceptions that Pillow raises for damaged files. It documents OSError only; fuzzing found the others."""
