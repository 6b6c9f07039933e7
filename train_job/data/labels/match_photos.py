"""Which photo a name in a label file means: names are written by hand, by Windows, by macOS, and from other folders."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple
from urllib.parse import unquote_plus

from transferlite.images.find_photos import SUFFIXES, is_junk
from transferlite.storage.store import join_uri

UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends and bytes that are not UTF-8: no name or label can be shown that has one."""

UNREADABLE_NAME = "the name has a character that cannot be shown"
_JUNK = "it is hidden, or was left behind by a file manager"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3 = frozenset({"s3", "s3a", "s3n"})  # the latter two as Hadoop and Spark write it


class Found(NamedTuple):
    """What a name means: the photo's URI, its key and stamp where it was listed, or a reject's code and reason."""

    uri: str
    key: str = ""
    stamp: str = ""
    code: str = ""
    reason: str = ""


def shown(text: str) -> str:
    """A text that can be printed, whatever it holds."""
    return UNREADABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def composed(text: str) -> str:
    """The text with each letter and its accents as one character (NFC), as keyboards but not macOS have it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class PhotoNames:
    """The photos listed below a root: ``stamps`` is of each key."""

    root: str
    stamps: Mapping[str, str]

    def find(self, name: str) -> Found:
        """The photo that ``name`` means: relative to the root, or a whole ``s3://`` URI or path.

        A key that is exactly the name is taken first. What lies elsewhere is not looked at, but for local files.
        """
        return self._located(name) or self._missing(name.strip())

    def has(self, name: str) -> bool:
        """Whether the name means a photo that was listed."""
        found = self._located(name)
        return found is not None and bool(found.key)

    def _located(self, name: str) -> Found | None:
        for exact in (name, name.removeprefix(self._roots[0])):
            if exact in self.stamps:
                return self._checked(exact)
        name = name.strip()
        if UNREADABLE.search(name):
            return Found(shown(join_uri(self.root, name)), code="bad-name", reason=UNREADABLE_NAME)
        if scheme := _SCHEME.match(name):
            return self._whole(name, scheme[1].lower(), name[scheme.end() :])
        return self._at_path(name) if name.startswith("/") else self._below(name)

    def _whole(self, uri: str, scheme: str, path: str) -> Found | None:
        if scheme == "file":
            return self._at_path(path)
        if scheme not in _S3:
            return Found(uri, code="unusable", reason=f"{scheme}:// is not supported; give an s3:// URI or a path")
        uri = f"s3://{path}"
        return self._below(uri) if uri.startswith(self._roots) else _elsewhere(uri)

    def _at_path(self, path: str) -> Found | None:
        if not path.startswith(self._roots) and os.path.isfile(path):  # noqa: PTH113 (Path would raise for some names)
            return _elsewhere(path)
        return self._below(path)

    def _below(self, name: str) -> Found | None:
        for form in self._forms(name):
            if form in self.stamps:
                return self._checked(form)
        if name.isascii() or not self._composed:
            return None
        keys = (self._composed.get(composed(form)) for form in self._forms(name))
        return next((self._checked(key) for key in keys if key), None)

    def _forms(self, name: str) -> Iterator[str]:
        """The keys that a name may stand for, the likeliest first."""
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            yield written
            for root in self._roots:
                if written.startswith(root):
                    yield written.removeprefix(root)
            bare = re.sub(r"^(\.?/)+", "", written)
            yield bare
            for tail in self._tails:
                if bare.startswith(tail):
                    yield bare.removeprefix(tail)

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        """What a whole name of a photo below the root begins with."""
        roots = [self.root] if "://" in self.root else [self.root, str(Path(self.root).absolute())]
        return tuple(f"{root.rstrip('/')}/" for root in dict.fromkeys(roots))

    @cached_property
    def _tails(self) -> tuple[str, ...]:
        """The last folders of the root, the longest first: a name may be relative to a folder above it."""
        parts = [part for part in self.root.partition("://")[2 if "://" in self.root else 0].split("/") if part]
        return tuple("/".join(parts[start:]) + "/" for start in range(len(parts)))

    @cached_property
    def _composed(self) -> Mapping[str, str]:
        """Keys by their NFC, but for those that share it; and only those that are not ASCII."""
        found: dict[str, str] = {}
        for key in self.stamps:
            if not key.isascii():
                form = composed(key)
                found[form] = "" if form in found else key
        return found

    def _checked(self, key: str) -> Found:
        uri = join_uri(self.root, key)
        if UNREADABLE.search(key):
            return Found(shown(uri), key, code="bad-name", reason=UNREADABLE_NAME)
        if is_junk(key):
            return Found(uri, key, code="not-photo-name", reason=_JUNK)
        return Found(uri, key, self.stamps[key])

    def _missing(self, name: str) -> Found:
        near = self._near(name.replace("\\", "/"))
        reason = "there is no such file" + (f", but {near!r}" if near else "")
        return Found(name if _is_whole(name) else join_uri(self.root, name), code="missing", reason=reason)

    def _near(self, name: str) -> str:
        """A key that may have been meant: the same encoded, or in other case, or with another ending or folder."""
        decoded = (form for form in self._forms(unquote_plus(name)) if form in self.stamps)
        keys, stems = self._folded
        folded = (keys[form.casefold()] for form in self._forms(composed(name)) if form.casefold() in keys)
        return shown(next(decoded, "") or next(folded, "") or stems.get(_stem(name), ""))

    @cached_property
    def _folded(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Keys by their NFC without case, and one of them for each file name without its ending."""
        return {composed(key).casefold(): key for key in self.stamps}, {_stem(key): key for key in self.stamps}


def _elsewhere(uri: str) -> Found:
    """A file outside of the root, at which nobody has looked yet."""
    junk = is_junk(uri.rpartition("/")[2])
    return Found(uri, code="not-photo-name", reason=_JUNK) if junk else Found(uri)


def _is_whole(name: str) -> bool:
    return name.startswith("/") or _SCHEME.match(name) is not None


def _stem(key: str) -> str:
    name = composed(key.rpartition("/")[2])
    stem, ending = splitext(name)
    return (stem if ending.lower() in SUFFIXES else name).casefold()
