"""Cache folder with copies of remote model versions; keeps the last two that were used.

::

    CACHE/<model_id>/         a version's copy; the time of the folder is that of its last use
    CACHE/.transferlite-...   a copy that is being deleted
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transferlite.registry.manifest import is_model_id
from transferlite.storage.atomic_write import TEMPORARY_PREFIX
from transferlite.storage.os_errors import translate_os_errors

KEPT_VERSIONS = 2
"""Versions that stay in a cache: the current one, and the one before it for a rollback."""


@contextmanager
def cache_in_use(cache: Path, model_id: str) -> Iterator[Path]:
    """Yield the folder for a version's copy; on exit delete all copies but the last two used.

    Until the context ends, no other process deletes a copy, so that the caller can pull and load one. Files that are
    already loaded may be deleted. If another process uses the cache on exit, old copies stay until the next use.

    Raises the store errors of ``transferlite.errors`` if the folder cannot be created.
    """
    with translate_os_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
    with _opened(cache) as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield cache / model_id
        with suppress(OSError):  # the cache is in use, or its disk cannot be written
            os.utime(cache / model_id)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete_old_copies(cache)


def clear_cache(cache: Path, model_id: str) -> None:
    """Delete all but one version's copy, unless another process is using the cache."""
    with suppress(OSError), _opened(cache) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in cache.iterdir():
            if path.name != model_id:
                _delete(path)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _delete_old_copies(cache: Path) -> None:
    copies = [path for path in cache.iterdir() if path.is_dir() and is_model_id(path.name)]
    copies.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in [*copies[KEPT_VERSIONS:], *cache.glob(f"{TEMPORARY_PREFIX}*")]:
        _delete(path)


def _delete(folder: Path) -> None:
    """Delete a copy; if the process is killed meanwhile, no part of it stays under the version's name."""
    doomed = folder.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
