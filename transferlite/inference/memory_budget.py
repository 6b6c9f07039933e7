"""Memory that decoding may take: a share of the memory at hand, for all photos that are decoded at the same time."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from transferlite.errors import PhotoError

_MIB = 2**20
_COMMON_BYTES = 256 * _MIB
"""Memory for decoding in a function of the template's default size, 1,024 MB, and of the smallest, 512 MB."""

_FIXED_BYTES = 24 * _MIB
"""Memory beside the pixels: libraries loaded for a rare format, their tables, and strips of converted pixels."""


def memory_at_hand(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: the size of the function or container, or the machine's memory.

    Args:
        environment: variables of the process, with the function's size.
        root: folder with ``proc`` and ``sys``.
    """
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    function = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if function.isdigit():
        sizes.append(int(function) * _MIB)
    for path in _limit_files(root):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # otherwise "max"
            sizes.append(int(text))
    return min(sizes)


def _limit_files(root: Path) -> Iterator[Path]:
    """Yield the files with the memory limits of this process's control groups. Source: cgroups(7)."""
    yield root / "sys/fs/cgroup/memory.max"
    yield root / "sys/fs/cgroup/memory/memory.limit_in_bytes"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, group = line.split(":", 2)
        if number == "0":
            folder = Path(group.lstrip("/"))
            yield from (root / "sys/fs/cgroup" / part / "memory.max" for part in (folder, *folder.parents))


def share_for_decoding(memory: int) -> int:
    """Return the bytes for decoding out of ``memory``: half of a small memory up to 256 MiB, a quarter of a large one.

    256 MiB are what a function of 512 MB has left beside the interpreter and a large model.
    """
    return max(memory // 4, min(memory // 2, _COMMON_BYTES))


class MemoryBudget:
    """Bytes that decoding may take; threads wait for each other."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._released = threading.Condition()

    @contextmanager
    def reserve(self, needed: int, kind: str, size: tuple[int, int], file_bytes: int = 0) -> Iterator[None]:
        """Hold memory for a photo, after waiting until other photos leave enough.

        Args:
            needed: bytes for its pixels, in proportion to their number.
            kind: name of its format, for the message.
            size: its width and height.
            file_bytes: size of its file; the codec may copy it.

        Raises:
            PhotoError: ``too-large``; the photo needs more than the whole budget.
        """
        beside = _FIXED_BYTES + 2 * file_bytes
        if beside + needed > self.limit:
            raise self._too_large(needed, kind, size, max(self.limit - beside, 0))
        with self._released:
            self._released.wait_for(lambda: self._used + beside + needed <= self.limit or not self._used)
            self._used += beside + needed
        try:
            yield
        finally:
            with self._released:
                self._used -= beside + needed
                self._released.notify_all()

    def _too_large(self, needed: int, kind: str, size: tuple[int, int], left: int) -> PhotoError:
        width, height = size
        pixels = width * height * left // max(needed, 1)
        message = f"{width}x{height} is more than {pixels:,} pixels, the limit for {kind} in {self.limit // _MIB} MiB"
        return PhotoError("too-large", message, hint="scale it down, or decode it with more memory")


@cache
def decoding_budget() -> MemoryBudget:
    """Return this process's budget."""
    return MemoryBudget(share_for_decoding(memory_at_hand()))


def limit_decoding(limit: int) -> None:
    """Lower this process's budget to ``limit`` bytes, if it is higher."""
    budget = decoding_budget()
    budget.limit = min(budget.limit, limit)
