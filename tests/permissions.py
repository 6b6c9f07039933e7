"""Files and folders that this process may not read, also where the tests run as root."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_READ_ANYTHING = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root's rights to read what the permissions forbid."""


@contextmanager
def unreadable(*paths: Path, mode: int = 0) -> Iterator[None]:
    """Set the permissions of paths to ``mode``, and drop root's rights in this thread and those that it starts."""
    modes = [path.stat().st_mode for path in paths]
    header, before = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, before) == 0, os.strerror(ctypes.get_errno())
    dropped = (ctypes.c_uint32 * 6)(*before)
    dropped[0] &= ~_READ_ANYTHING
    for path in paths:
        path.chmod(mode)
    assert libc.capset(header, dropped) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0, os.strerror(ctypes.get_errno())
        for path, before_mode in zip(paths, modes, strict=True):
            path.chmod(before_mode)
