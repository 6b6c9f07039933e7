"""Match the files below a folder with a shell pattern, as ``glob`` does, but search each real folder once."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from typing import NamedTuple

from transferlite.storage.walk_folder import FolderWalk, walk_selected

_Positions = frozenset[int]
"""Parts of a pattern that may match next; the number of parts once a whole pattern matched."""


class PathPattern(NamedTuple):
    """A pattern split at its first part with a wildcard.

    Attributes:
        root: folder to search; empty for the current folder, and else it ends in a slash.
        parts: parts of the pattern below it. ``**`` matches any number of folders.
    """

    root: str
    parts: tuple[str, ...]

    @classmethod
    def split(cls, pattern: str) -> "PathPattern":
        """Split a pattern that has a wildcard."""
        parts = pattern.split("/")
        first = next(index for index, part in enumerate(parts) if has_magic(part))
        return cls("".join(f"{part}/" for part in parts[:first]), tuple(parts[first:]))

    def walk(self, is_left_out: Callable[[str], bool]) -> FolderWalk:
        """Walk the files that match and the files below the folders that match; paths are below ``root``.

        Names for which ``is_left_out`` returns True match nothing.

        Raises:
            OSError: the folder ``root`` cannot be read.
        """

        def select(positions: _Positions, name: str, is_folder: bool) -> _Positions | None:
            if is_left_out(name):
                return None
            following = _following(self.parts, positions, name)
            if is_folder:
                return _with_empty_matches(self.parts, following) or None
            return following if len(self.parts) in following else None

        return walk_selected(self.root or ".", _with_empty_matches(self.parts, frozenset({0})), select)


def _following(parts: Sequence[str], positions: _Positions, name: str) -> _Positions:
    """Return the positions after one more name."""
    following = set()
    for position in positions:
        if position == len(parts) or parts[position] == "**":
            following.add(position)
        elif fnmatchcase(name, parts[position]):
            following.add(position + 1)
    return frozenset(following)


def _with_empty_matches(parts: Sequence[str], positions: _Positions) -> _Positions:
    """Add the positions that are reached when ``**`` matches no folder."""
    reached = set(positions)
    for position in range(len(parts)):
        if position in reached and parts[position] == "**":
            reached.add(position + 1)
    return frozenset(reached)
