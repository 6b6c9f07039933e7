"""Tell whether a local file's content changed, also if its size and modification time are the same.

Archives, ``cp -p`` and ``rsync -t`` set the modification time. The change time (ctime) is set by the kernel alone, but
only some file systems keep it: on FAT and most network and FUSE mounts it equals the modification time.
"""

import ctypes
import hashlib
import os
import sys
import time
from typing import NamedTuple

HASH_PREFIX = "sha256:"
"""Start of a mark that is the content's hash."""

_MAX_HASHED_BYTES = 2**26
"""Size of the largest file to hash, 64 MiB: larger photos are rejected anyway."""

_TICK_NS = 20_000_000
"""Kernel clock steps are at most 10 ms: a file that changes twice within a step keeps its change time."""

_SECOND_NS = 1_000_000_000
_NFS_CACHE_NS = 60 * _SECOND_NS
"""Time for which an NFS client may report an old status; also covers clocks that differ by less."""

_LOCAL_TYPES = frozenset(
    [
        *[0xEF53, 0x58465342, 0x9123683E, 0xCA451A4E],  # ext2 to ext4, XFS, Btrfs, bcachefs
        *[0xF2F52010, 0x2FC12FC1, 0x01021994, 0x794C7630],  # F2FS, ZFS, tmpfs, overlay
    ]
)
_NFS_TYPE = 0x6969
"""Types of file systems with a real change time. Source: statfs(2) and linux/magic.h"""


_margins: dict[int, int | None] = {}
"""Results of :func:`_ctime_margin` by device."""


class FileChange(NamedTuple):
    """When and where a file's content last changed.

    Attributes:
        path: of the file.
        size: in bytes.
        ctime_ns: its change time in nanoseconds since 1970.
        device: number of its file system.
    """

    path: str
    size: int
    ctime_ns: int
    device: int

    def mark(self) -> str:
        """Return text that differs after any later change of the content; empty if the file cannot be read.

        It is the change time where that is reliable, and else the content's hash. Waits at most 20 ms.
        """
        return f"{self.ctime_ns:x}" if self._is_reliable() else self._hash_content()

    def _is_reliable(self) -> bool:
        """Return whether every later change will have a later change time."""
        margin = _ctime_margin(self.device, self.path)
        if margin is None:
            return False
        if self.ctime_ns % _SECOND_NS == 0:  # the file system counts whole seconds, as ext3 does
            margin = max(margin, 2 * _SECOND_NS)
        wait = self.ctime_ns + margin - time.time_ns()
        if 0 < wait <= _TICK_NS:
            time.sleep(wait / _SECOND_NS)
        return wait <= _TICK_NS

    def _hash_content(self) -> str:
        if self.size > _MAX_HASHED_BYTES:
            return ""
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - Path is slower
                return HASH_PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""


def _ctime_margin(device: int, path: str) -> int | None:
    """Return the age in nanoseconds from which a change time is reliable; None if it never is."""
    if device not in _margins:
        file_system = _file_system_type(path)
        local = _TICK_NS if file_system in _LOCAL_TYPES else None
        _margins[device] = _NFS_CACHE_NS if file_system == _NFS_TYPE else local
    return _margins[device]


def _file_system_type(path: str) -> int | None:
    """Return the type of the file system with ``path``, as Linux's ``statfs`` gives it; None elsewhere."""
    if sys.platform != "linux":
        return None
    status = (ctypes.c_long * 64)()  # more than any struct statfs, whose first field is the type
    if ctypes.CDLL(None).statfs(os.fsencode(path), status):
        return None
    return int(status[0]) & 0xFFFFFFFF
