"""The store of a local (or shared POSIX) folder: whole writes by renaming, conditional ones by link and lock."""

import errno
import fcntl
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transferlite.errors import AccessDeniedError, ConflictError, InputError, NotFoundError, TransferLiteError
from transferlite.storage.store import BLOCK, Blob, Entry, join_uri

TEMPORARY_PREFIX = ".transferlite-"


class FolderStore:
    """A folder on a local (or shared POSIX) file system."""

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.expanduser()
        except RuntimeError as error:
            raise InputError(str(error), where=str(root)) from None

    @property
    def uri(self) -> str:
        return str(self.root)

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        path = self.path_of(key)
        with translate_os_errors(path), path.open("rb") as file:
            stat = os.fstat(file.fileno())
            return Blob(file.read(-1 if max_bytes is None else max_bytes), _stat_etag(stat), stat.st_mtime)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        path = self.path_of(key)
        with translate_os_errors(path), path.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def get_changed(self, key: str, etag: str) -> Blob | None:
        return self.get(key) if self.head(key).etag != etag else None

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        path = self.path_of(key)
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _written_aside(path) as aside:
                aside.write_bytes(data)
                etag = _stat_etag(aside.stat())
                self._commit(aside, path, if_absent, if_match)
        return etag

    def delete(self, key: str) -> None:
        path = self.path_of(key)
        with suppress(NotFoundError), translate_os_errors(path):
            path.unlink()

    def head(self, key: str) -> Entry:
        path = self.path_of(key)
        with translate_os_errors(path):
            stat = path.stat()
        return Entry(key, stat.st_size, _stat_etag(stat), modified=stat.st_mtime)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        files = deque(self._walked(prefix))
        while files:
            key, path = files.popleft()
            if stat := _stat_of_file(path):
                yield Entry(key, stat.st_size, _stat_etag(stat), modified=stat.st_mtime)
            elif not os.path.lexists(path):  # deleted since, perhaps for a file that the walk came too early for
                files = deque(item for item in self._walked(prefix) if item[0] > key)

    def _walked(self, prefix: str) -> list[tuple[str, Path]]:
        """Key and path of all whose key begins with ``prefix``, in key order."""
        folder = self.path_of(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        found = []

        def failed(error: OSError) -> None:
            if not (prefix and isinstance(error, FileNotFoundError)):  # nothing below a prefix is no error
                raise error

        with translate_os_errors(folder):
            for base, folders, names in os.walk(folder, onerror=failed, followlinks=True):
                folders[:] = [name for name in folders if not _leads_back(Path(base, name), self.root)]
                found += [Path(base, name) for name in names if not name.startswith(TEMPORARY_PREFIX)]
        keyed = ((path.relative_to(self.root).as_posix(), path) for path in found)
        return sorted(item for item in keyed if item[0].startswith(prefix))

    def children(self, prefix: str = "") -> Iterator[str]:
        folder = self.path_of(prefix.rstrip("/")) if prefix else self.root
        with translate_os_errors(folder):
            names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        yield from names

    def upload(self, key: str, path: Path) -> None:
        target = self.path_of(key)
        with translate_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _written_aside(target) as aside:
                shutil.copyfile(path, aside)
                aside.replace(target)

    def download(self, key: str, path: Path) -> None:
        source = self.path_of(key)
        with (
            translate_os_errors(source),
            source.open("rb") as content,
            translate_os_errors(path),
            _written_aside(path) as aside,
        ):
            with aside.open("wb") as copy:
                shutil.copyfileobj(content, copy)
            aside.replace(path)

    def check_writable(self) -> None:
        if not self.root.exists():
            if not self.root.absolute().parent.is_dir():
                raise NotFoundError("its parent folder does not exist", where=self.uri, hint="create it first")
        elif not self.root.is_dir():
            raise InputError("is a file, not a folder", where=self.uri)
        existing = self.root if self.root.exists() else self.root.absolute().parent
        if not os.access(existing, os.W_OK | os.X_OK):
            raise AccessDeniedError("no permission to write", where=self.uri)

    def path_of(self, key: str) -> Path:
        """The file of that key. Raises InputError for a key that would leave the folder."""
        if ".." in key.split("/") or key.startswith("/"):
            raise InputError("a key may not leave its store", where=join_uri(self.uri, key))
        return self.root / key

    def _commit(self, aside: Path, path: Path, if_absent: bool, if_match: str | None) -> None:
        if if_absent:
            try:
                os.link(aside, path)
            except FileExistsError:
                raise ConflictError("exists already", where=str(path)) from None
            except OSError:
                _create_without_links(aside, path)
        elif if_match is None:
            aside.replace(path)
        else:
            with folder_lock(path.parent):
                if not path.exists() or _stat_etag(path.stat()) != if_match:
                    raise ConflictError("was changed by another writer", where=str(path))
                aside.replace(path)


def _create_without_links(aside: Path, path: Path) -> None:
    """Move ``aside`` to where nothing is yet, on file systems that have no hard links (FAT on a memory card)."""
    with folder_lock(path.parent):
        if path.exists():
            raise ConflictError("exists already", where=str(path))
        aside.replace(path)


def _stat_of_file(path: Path) -> os.stat_result | None:
    """None where there is no file, or none any more."""
    try:
        return path.stat() if path.is_file() else None
    except FileNotFoundError:
        return None


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a symbolic link leads to a folder that it lies in, so that walking it would not end."""
    return folder.is_symlink() and any(
        parent.samefile(folder) for parent in folder.parents if parent.is_relative_to(root)
    )


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write and then move into place; removed if it still stands at the end."""
    aside = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also if the power is cut: the old content stands until the new is on the disk.

    Raises the store errors of ``transferlite.errors``.
    """
    with translate_os_errors(path), _written_aside(path) as aside:
        aside.write_bytes(data)
        move_into_place(aside, path)


def move_into_place(aside: Path, path: Path) -> None:
    """Give a finished neighbour the name ``path``, once its content is on the disk."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder against others who take this lock; one who dies gives it back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stat_etag(stat: os.stat_result) -> str:
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says of ``path`` into the store errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError("does not exist", where=str(path)) from None
    except IsADirectoryError:
        raise InputError("is a folder where a file is needed", where=str(path)) from None
    except PermissionError:
        raise AccessDeniedError("permission denied", where=str(path)) from None
    except ValueError as error:
        raise InputError(f"is not a path ({error})", where=repr(str(path))) from None
    except OSError as error:
        kind = InputError if error.errno == errno.ENAMETOOLONG else TransferLiteError
        raise kind(str(error.strerror), where=str(path)) from error
