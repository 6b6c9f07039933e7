"""Walk a local folder: list its files, and whatever is left out with the reason.

Symbolic links are followed, but each real folder is searched once. So the walk ends whatever the links are.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

from transferlite.errors import AccessDeniedError, InputError, NotFoundError, TransferLiteError

State = TypeVar("State")

Select = Callable[[State, str, bool], State | None]
"""Takes a folder's state, the name of a child, and whether the child is a folder.

Returns the child's state, which is hashable, or None to leave the child out.
"""

_DELETED = (errno.ENOENT, errno.ENOTDIR)
_SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class SkippedEntry(NamedTuple):
    """A file or folder that a listing leaves out.

    Attributes:
        key: path below the listed root.
        code: why it is left out, as a code of a rejected photo: ``missing`` for a broken symbolic link, ``forbidden``
            without permission, ``unusable`` for other files, ``duplicate`` for a folder that is listed already.
        reason: the same for people.
        may_be_folder: whether files may lie below it.
        same_as: for ``duplicate``, path of the folder that is listed instead; empty for the root.
    """

    key: str
    code: str
    reason: str
    may_be_folder: bool = False
    same_as: str = ""

    @property
    def hides_files(self) -> bool:
        """Whether files may lie below it that the listing lacks."""
        return self.may_be_folder and self.code != "duplicate"

    def below(self, parent: str) -> "SkippedEntry":
        """Return the entry as seen from a folder above; ``parent`` is empty or ends in a slash."""
        same_as = f"{parent}{self.same_as}".rstrip("/")
        return self._replace(key=f"{parent}{self.key}", same_as=same_as if self.code == "duplicate" else "")

    def to_error(self, where: str) -> TransferLiteError:
        """Return the error to report or raise; ``where`` is the entry's URI."""
        match self.code:
            case "forbidden":
                return AccessDeniedError(self.reason, where=where)
            case "missing":
                return NotFoundError(self.reason, where=where)
        return InputError(self.reason, where=where)


@dataclass
class FolderWalk:
    """Result of a walk, in the order of the paths below the walked folder.

    Attributes:
        files: paths of the regular files, also through symbolic links.
        skipped: what is left out.
    """

    files: list[str] = field(default_factory=list)
    skipped: list[SkippedEntry] = field(default_factory=list)


def walk_folder(root: str) -> FolderWalk:
    """Walk all files below a folder. Raises OSError if the folder itself cannot be read."""
    return walk_selected(root, 0, lambda state, _name, _is_folder: state)


def walk_selected(root: str, start: State, select: Select[State]) -> FolderWalk:
    """Walk the files below a folder that ``select`` selects; ``start`` is the folder's own state.

    A folder is searched once for each state that it gets on different paths.

    Raises:
        OSError: the folder itself cannot be read.
    """
    walker = _Walker(root, select)
    walker.add_folder(_Folder(False, 0, ""), start)
    walker.run()
    walker.result.files.sort()
    walker.result.skipped.sort()
    return walker.result


class _Folder(NamedTuple):
    """A folder to search; those with a lower tuple are searched first.

    Of the paths that lead to a folder, the walk so takes one that is not hidden, with the fewest links.
    """

    is_hidden: bool
    links: int
    path: str


class _Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    DELETED = "deleted"


class _Walker(Generic[State]):
    """A walk in progress."""

    def __init__(self, root: str, select: Select[State]) -> None:
        self.root = root
        self.select = select
        self.result = FolderWalk()
        self._queue: list[_Folder] = []
        self._states: dict[str, State] = {}
        self._searched: dict[tuple[object, State], str] = {}

    def add_folder(self, folder: _Folder, state: State) -> None:
        """Add a folder to the queue."""
        heappush(self._queue, folder)
        self._states[folder.path] = state

    def run(self) -> None:
        """Search the queued folders and the folders in them."""
        while self._queue:
            folder = heappop(self._queue)
            try:
                self._search(folder, self._states.pop(folder.path))
            except OSError as error:
                if not folder.path:
                    raise
                if error.errno not in _DELETED:
                    self.result.skipped.append(unreadable_entry(folder.path, error, may_be_folder=True))

    def _search(self, folder: _Folder, state: State) -> None:
        location = os.path.join(self.root, folder.path) if folder.path else self.root  # noqa: PTH118 - Path is slower
        identities = [(identity, state) for identity in _identities(location, folder)]
        same_as = next((self._searched[identity] for identity in identities if identity in self._searched), None)
        if same_as is not None:
            self.result.skipped.append(_repeated(folder.path, same_as))
            return
        with os.scandir(location) as scan:
            children = list(scan)
        self._searched.update(dict.fromkeys(identities, folder.path))
        for child in children:
            self._add_child(folder, state, child)

    def _add_child(self, folder: _Folder, state: State, child: "os.DirEntry[str]") -> None:
        path = f"{folder.path}/{child.name}" if folder.path else child.name
        kind = _classify(child, path)
        selected = self.select(state, child.name, kind is _Kind.FOLDER)
        if isinstance(kind, SkippedEntry):
            if selected is not None or (kind.may_be_folder and self.select(state, child.name, True) is not None):
                self.result.skipped.append(kind)
        elif selected is not None and kind is _Kind.FOLDER:
            is_hidden = folder.is_hidden or child.name.startswith(".")
            self.add_folder(_Folder(is_hidden, folder.links + child.is_symlink(), path), selected)
        elif selected is not None and kind is _Kind.FILE:
            self.result.files.append(path)


def _identities(location: str, folder: _Folder) -> list[object]:
    """Return what tells a real folder from others: device and inode, and its real path if links lead to it.

    Some network file systems have no inodes, or invent a new number each time.
    """
    status = os.stat(location)  # noqa: PTH116 - Path is slower
    identities: list[object] = [(status.st_dev, status.st_ino)] if status.st_ino else []
    if folder.links or not folder.path or not identities:
        identities.append(os.path.realpath(location))
    return identities


def _classify(child: "os.DirEntry[str]", path: str) -> _Kind | SkippedEntry:
    """Return what a child of a folder is, or why it cannot be listed. Regular files need no call of the system."""
    try:
        if child.is_dir():
            return _Kind.FOLDER
        if child.is_file():
            return _Kind.FILE
        mode = child.stat().st_mode
    except OSError as error:
        return _classify_unknown(child, path, error)
    return SkippedEntry(path, "unusable", f"is {_SPECIAL_FILES.get(stat.S_IFMT(mode), 'not a file')}")


def _classify_unknown(child: "os.DirEntry[str]", path: str, error: OSError) -> _Kind | SkippedEntry:
    """Return why a child has no status: it is a broken link, was deleted, or permission is missing."""
    may_be_folder = not os.path.splitext(child.name)[1]  # noqa: PTH122
    try:
        target = os.readlink(child.path)  # noqa: PTH115
    except OSError:
        if error.errno in _DELETED:
            return _Kind.DELETED
        return unreadable_entry(path, error, may_be_folder)
    if error.errno in (*_DELETED, errno.ELOOP):
        return SkippedEntry(path, "missing", f"is a broken symbolic link to {target!r}", may_be_folder)
    return unreadable_entry(path, error, may_be_folder)


def unreadable_entry(path: str, error: OSError, may_be_folder: bool = False) -> SkippedEntry:
    """Return the entry of a file or folder that cannot be read."""
    code = "forbidden" if isinstance(error, PermissionError) else "unusable"
    return SkippedEntry(path, code, f"cannot be read ({error.strerror})", may_be_folder)


def _repeated(path: str, same_as: str) -> SkippedEntry:
    target = f"the folder {same_as!r}, which is listed already" if same_as else "the listed folder itself"
    return SkippedEntry(path, "duplicate", f"leads to {target}", may_be_folder=True, same_as=same_as)
