"""Store in a local (or shared POSIX) folder: atomic writes by rename, conditional writes by hard link or lock."""

import fcntl
import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from transferlite.errors import AccessDeniedError, ConflictError, InputError, NotFoundError
from transferlite.storage.atomic_write import TEMPORARY_PREFIX, temporary_beside
from transferlite.storage.file_stamp import FileChange
from transferlite.storage.os_errors import translate_os_errors
from transferlite.storage.store import BLOCK, Blob, Entry, OnSkip, join_uri
from transferlite.storage.walk_folder import SkippedEntry, unreadable_entry, walk_folder


class FolderStore:
    """Store in a folder on a local (or shared POSIX) file system."""

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
            with temporary_beside(path) as temporary:
                temporary.write_bytes(data)
                etag = _stat_etag(temporary.stat())
                self._commit(temporary, path, if_absent, if_match)
        return etag

    def delete(self, key: str) -> None:
        path = self.path_of(key)
        with suppress(NotFoundError), translate_os_errors(path):
            path.unlink()

    def head(self, key: str) -> Entry:
        path = self.path_of(key)
        with translate_os_errors(path):
            return _entry(key, str(path), path.stat())

    def entries(self, prefix: str = "", on_skip: OnSkip | None = None) -> Iterator[Entry]:
        report = on_skip or self._raise_if_unreadable
        files = deque(self._walk(prefix, report))
        while files:
            key = files.popleft()
            path = f"{self.root}/{key}"
            try:
                stat = os.stat(path)  # noqa: PTH116 - Path is slower
            except OSError as error:
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    report(unreadable_entry(key, error))
                elif not os.path.lexists(path):  # deleted since the walk, perhaps replaced by a new file: walk again
                    files = deque(later for later in self._walk(prefix, lambda _: None) if later > key)
            else:
                if S_ISREG(stat.st_mode):
                    yield _entry(key, path, stat)

    def _walk(self, prefix: str, on_skip: OnSkip) -> list[str]:
        """List the keys that start with ``prefix``, in order."""
        folder = self.path_of(prefix.rpartition("/")[0]) if "/" in prefix else self.root
        with translate_os_errors(folder):
            try:
                walk = walk_folder(str(folder))
            except FileNotFoundError:
                if prefix:
                    return []
                raise
        parent = f"{folder.relative_to(self.root).as_posix()}/".removeprefix("./")
        for entry in walk.skipped:
            if f"{parent}{entry.key}".startswith(prefix):
                on_skip(entry.below(parent))
        keys = (f"{parent}{path}" for path in walk.files)
        return [key for key in keys if key.startswith(prefix) and not _is_temporary(key)]

    def _raise_if_unreadable(self, entry: SkippedEntry) -> None:
        if entry.code == "forbidden" or (entry.code == "unusable" and entry.may_be_folder):
            raise entry.to_error(join_uri(self.uri, entry.key))

    def children(self, prefix: str = "") -> Iterator[str]:
        folder = self.path_of(prefix.rstrip("/")) if prefix else self.root
        with translate_os_errors(folder):
            names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        yield from names

    def upload(self, key: str, path: Path) -> None:
        target = self.path_of(key)
        with translate_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary_beside(target) as temporary:
                shutil.copyfile(path, temporary)
                temporary.replace(target)

    def download(self, key: str, path: Path) -> None:
        source = self.path_of(key)
        with (
            translate_os_errors(source),
            source.open("rb") as content,
            translate_os_errors(path),
            temporary_beside(path) as temporary,
        ):
            with temporary.open("wb") as copy:
                shutil.copyfileobj(content, copy)
            temporary.replace(path)

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
        """Return the path of a key. Raises InputError if it is outside the folder."""
        if ".." in key.split("/") or key.startswith("/"):
            raise InputError("a key must not leave its store", where=join_uri(self.uri, key))
        return self.root / key

    def _commit(self, temporary: Path, path: Path, if_absent: bool, if_match: str | None) -> None:
        """Move a finished temporary file to ``path`` if the condition holds."""
        if if_absent:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise ConflictError("exists already", where=str(path)) from None
            except OSError:
                _move_if_absent(temporary, path)
        elif if_match is None:
            temporary.replace(path)
        else:
            with folder_lock(path.parent):
                if not path.exists() or _stat_etag(path.stat()) != if_match:
                    raise ConflictError("was changed by another writer", where=str(path))
                temporary.replace(path)


def _move_if_absent(temporary: Path, path: Path) -> None:
    """Create ``path`` under a lock, for file systems without hard links, such as FAT on a memory card."""
    with folder_lock(path.parent):
        if path.exists():
            raise ConflictError("exists already", where=str(path))
        temporary.replace(path)


def _entry(key: str, path: str, stat: os.stat_result) -> Entry:
    change = FileChange(path, stat.st_size, stat.st_ctime_ns, stat.st_dev)
    return Entry(key, stat.st_size, _stat_etag(stat), modified=stat.st_mtime, change=change)


def _is_temporary(key: str) -> bool:
    return key.rpartition("/")[2].startswith(TEMPORARY_PREFIX)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive advisory lock on a folder; the kernel releases the lock of a process that dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stat_etag(stat: os.stat_result) -> str:
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
