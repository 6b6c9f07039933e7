"""Write a file whole or not at all, even if the power fails: write beside it, flush, then rename."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transferlite.storage.os_errors import translate_os_errors

TEMPORARY_PREFIX = ".transferlite-"
"""Prefix of unfinished files; listings skip them."""


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write and then rename; delete the file if it is left at the end."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file atomically, even across a power cut: the previous content stays until the new one is on disk.

    Raises the store errors of ``transferlite.errors``.
    """
    with translate_os_errors(path), temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        move_into_place(temporary, path)


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush a finished file to disk, then rename it to ``path`` in the same folder."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
