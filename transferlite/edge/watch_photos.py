"""Find new, completely written photos in folders by scanning them repeatedly.

Scanning works on every file system and needs no package. The kernel's notifications (inotify) miss changes on network
file systems. A scan of 10,000 photos takes 0.2 s of one x86_64 core.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transferlite.errors import InputError, TransferLiteError
from transferlite.images.find_photos import OnError, is_junk, is_photo
from transferlite.storage.walk_folder import SkippedEntry, unreadable_entry, walk_selected

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


def _log_warning(error: TransferLiteError) -> None:
    logging.getLogger(__name__).warning("%s", error)


@dataclass
class PhotoWatcher:
    """Report each new photo in local folders, at any depth, once. A photo that is overwritten counts as new.

    Attributes:
        folders: folders to scan.
        known: paths of photos that were processed earlier: they are skipped when first seen.
        on_error: receives the error of each folder that cannot be read, broken link, pipe and other entry that is named
            like a photo and is none. Each is reported once, by the second scan that finds it.

    Raises:
        InputError: a folder does not exist or is not local.
    """

    folders: Sequence[Path]
    known: set[str] = field(default_factory=set)
    on_error: OnError = _log_warning
    _error_scans: dict[tuple[str, str], int] = field(default_factory=dict)
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
        stamps = self._list()
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

    def _list(self) -> dict[str, _Stamp]:
        """Return the stamp of each photo by its path; report what cannot be listed."""
        stamps: dict[str, _Stamp] = {}
        errors: dict[tuple[str, str], TransferLiteError] = {}
        for folder in self.folders:
            for found in _photos(folder):
                if not isinstance(found, SkippedEntry):
                    stamps[found[0]] = found[1]
                elif found.code != "duplicate":
                    path = os.path.join(folder, found.key).rstrip("/")  # noqa: PTH118
                    errors[path, found.reason] = found.to_error(path)
        self._error_scans = {key: self._error_scans.get(key, 0) + 1 for key in errors}
        for key, error in errors.items():
            if self._error_scans[key] == 2:
                self.on_error(error)
        return stamps

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


def _photos(folder: Path) -> Iterator[tuple[str, _Stamp] | SkippedEntry]:
    """Files with a photo's extension below ``folder``, and what was left out; deleted files are skipped."""
    try:
        walk = walk_selected(str(folder), 0, _select_photos)
    except (FileNotFoundError, NotADirectoryError):  # unplugged; it may return
        return
    except OSError as error:
        yield unreadable_entry("", error, may_be_folder=True)
        return
    yield from walk.skipped
    for name in walk.files:
        path = os.path.join(folder, name)  # noqa: PTH118 - FolderStore builds paths alike, and Path is slower
        try:
            status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            continue
        except OSError as error:
            yield unreadable_entry(name, error)
        else:
            yield path, _Stamp(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))


def _select_photos(state: int, name: str, is_folder: bool) -> int | None:
    return state if (not is_junk(name) if is_folder else is_photo(name)) else None
