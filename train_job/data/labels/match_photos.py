"""Match the names in a label file to photos, also names written by hand, on Windows or macOS, or from other folders."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from transferlite.images.find_photos import PHOTO_EXTENSIONS, is_junk, key_problem
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators and bytes that are not UTF-8, which no printed name or label may contain."""

UNPRINTABLE_NAME = "the name has a character that cannot be printed"
_JUNK_REASON = "it is hidden, or a file manager created it"
_MAX_ALTERNATIVES = 10  # keys that a message lists for a name that matches none
_UPLOADED = re.compile(r"/?data/upload/\d+/(?:[0-9a-f]{8}-)?(.+)")  # Label Studio adds a prefix to what is uploaded
_LOCAL_FILE = re.compile(r"/?data/local-files/\?d=(.+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})  # s3a and s3n: as Hadoop and Spark write it


class PhotoMatch(NamedTuple):
    """Result of matching a name.

    Attributes:
        uri: of the photo.
        key: relative to the root; empty if the photo is not listed.
        stamp: of the listed photo; empty if unknown.
        code: why the photo is rejected; empty for a usable photo.
        reason: the same for people.
    """

    uri: str
    key: str = ""
    stamp: str = ""
    code: str = ""
    reason: str = ""


def escape_unprintable(text: str) -> str:
    """Replace unprintable characters by escape sequences."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def name_problem(name: str) -> str:
    """Return why no photo may have this key or URI; empty if it may."""
    return UNPRINTABLE_NAME if UNPRINTABLE.search(name) else key_problem(name)


def to_nfc(text: str) -> str:
    """Normalise to NFC, which keyboards write; macOS stores file names in NFD."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class PhotoMatcher:
    """Matches names to the files listed below a root.

    Attributes:
        root: URI or path of the folder.
        stamps: ``Entry.stamp`` of each listed key.
        skipped: what the listing left out, by key.
    """

    root: str
    stamps: Mapping[str, str]
    skipped: Mapping[str, SkippedEntry] = field(default_factory=dict)

    def match(self, name: str) -> PhotoMatch:
        """Match a name: relative to the root, an absolute path, or an ``s3://`` URI.

        An exact match with a key comes first. Of files outside the root, only local ones are checked for existence.
        """
        return self._match_or_none(name) or self._missing_match(name.strip())

    def is_listed(self, name: str) -> bool:
        """Return whether the name matches a listed file."""
        match = self._match_or_none(name)
        return match is not None and bool(match.key)

    def _match_or_none(self, name: str) -> PhotoMatch | None:
        for exact in (name, name.removeprefix(self._roots[0])):
            if exact in self.stamps:
                return self._match_key(exact)
        name = name.strip()
        if UNPRINTABLE.search(name):
            return PhotoMatch(escape_unprintable(join_uri(self.root, name)), code="bad-name", reason=UNPRINTABLE_NAME)
        if scheme := _SCHEME.match(name):
            return self._match_uri(name, scheme[1].lower(), name[scheme.end() :])
        return self._match_path(name) if name.startswith("/") else self._match_listed(name)

    def _match_uri(self, uri: str, scheme: str, path: str) -> PhotoMatch | None:
        if scheme == "file":
            return self._match_path(path)
        if scheme not in _S3_SCHEMES:
            return PhotoMatch(uri, code="unusable", reason=f"{scheme}:// is not supported; give an s3:// URI or a path")
        uri = f"s3://{path}"
        return self._match_listed(uri) if uri.startswith(self._roots) else _match_outside(uri)

    def _match_path(self, path: str) -> PhotoMatch | None:
        if not path.startswith(self._roots) and os.path.isfile(path):  # noqa: PTH113 (Path would raise for some names)
            return _match_outside(path)
        return self._match_listed(path)

    def _match_listed(self, name: str) -> PhotoMatch | None:
        for key in self._candidate_keys(name):
            if key in self.stamps:
                return self._match_key(key)
        if not name.isascii() and self._keys_by_nfc:
            for key in self._candidate_keys(name):
                if same := self._keys_by_nfc.get(to_nfc(key)):
                    return self._match_key(same)
        matches = map(self._match_skipped, self._candidate_keys(name)) if self.skipped else ()
        return next(filter(None, matches), None)

    def _match_skipped(self, key: str) -> PhotoMatch | None:
        """Match a key that the listing left out, or that lies in a folder that it left out."""
        segments = key.split("/")
        for end in range(len(segments), 0, -1):
            entry = self.skipped.get("/".join(segments[:end]))
            if entry is not None and entry.code == "duplicate":
                listed = "/".join(filter(None, (entry.same_as, *segments[end:])))
                return self._match_key(listed) if listed in self.stamps else self._match_skipped(listed)
            if entry is not None and (entry.key == key or entry.may_be_folder):
                reason = entry.reason if entry.key == key else f"its folder {entry.key!r} {entry.reason}"
                uri = escape_unprintable(join_uri(self.root, key))
                return PhotoMatch(uri, key, code=entry.code, reason=escape_unprintable(reason))
        return None

    def _candidate_keys(self, name: str) -> Iterator[str]:
        """Yield the keys that a name may mean, the most likely first."""
        for path in dict.fromkeys((name, name.replace("\\", "/"))):
            yield path
            for root in self._roots:
                if path.startswith(root):
                    yield path.removeprefix(root)
            relative = re.sub(r"^(\.?/)+", "", path)
            yield relative
            for suffix in self._root_suffixes:
                if relative.startswith(suffix):
                    yield relative.removeprefix(suffix)
            if relative.startswith("data/"):
                yield from _label_studio_keys(relative)

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        """Prefixes of the URI or absolute path of a photo below the root."""
        roots = [self.root] if "://" in self.root else [self.root, str(Path(self.root).absolute())]
        return tuple(f"{root.rstrip('/')}/" for root in dict.fromkeys(roots))

    @cached_property
    def _root_suffixes(self) -> tuple[str, ...]:
        """Last folders of the root, the longest first: a name may be relative to a folder above the root."""
        parts = [part for part in self.root.partition("://")[2 if "://" in self.root else 0].split("/") if part]
        return tuple("/".join(parts[start:]) + "/" for start in range(len(parts)))

    @cached_property
    def _keys_by_nfc(self) -> Mapping[str, str]:
        """Keys that are not ASCII by their NFC form; empty where several keys share it."""
        keys: dict[str, str] = {}
        for key in self.stamps:
            if not key.isascii():
                normalised = to_nfc(key)
                keys[normalised] = "" if normalised in keys else key
        return keys

    def _match_key(self, key: str) -> PhotoMatch:
        uri = join_uri(self.root, key)
        if problem := name_problem(key):
            return PhotoMatch(escape_unprintable(uri), key, code="bad-name", reason=problem)
        if is_junk(key):
            return PhotoMatch(uri, key, code="not-photo-name", reason=_JUNK_REASON)
        return PhotoMatch(uri, key, self.stamps[key])

    def _missing_match(self, name: str) -> PhotoMatch:
        similar = self._similar_keys(name.replace("\\", "/"))
        reason = "there is no such file" + (f"; did you mean {_alternatives(similar)}?" if similar else "")
        return PhotoMatch(name if _is_absolute(name) else join_uri(self.root, name), code="missing", reason=reason)

    def _similar_keys(self, name: str) -> Sequence[str]:
        """Return the keys that differ in URL encoding, case, extension or folder only."""
        decoded = next((key for key in self._candidate_keys(unquote_plus(name)) if key in self.stamps), None)
        keys, stems = self._folded_keys
        folded = (keys[key.casefold()] for key in self._candidate_keys(to_nfc(name)) if key.casefold() in keys)
        return [decoded] if decoded else next(folded, stems.get(_stem(name), []))

    @cached_property
    def _folded_keys(self) -> tuple[Mapping[str, list[str]], Mapping[str, list[str]]]:
        """Keys by their case-folded NFC form, and by their file name without its extension."""
        keys, stems = defaultdict(list), defaultdict(list)
        for key in self.stamps:
            keys[to_nfc(key).casefold()].append(key)
            stems[_stem(key)].append(key)
        return keys, stems


def _label_studio_keys(name: str) -> Iterator[str]:
    """Yield the names of an uploaded or local file, as Label Studio exports them."""
    if match := _UPLOADED.fullmatch(name):
        yield name.rpartition("/")[2]
        yield match[1]
    elif match := _LOCAL_FILE.fullmatch(name):
        path = unquote(match[1])
        segments = path.split("/")
        yield from ("/".join(segments[start:]) for start in range(len(segments)))


def _alternatives(keys: Sequence[str]) -> str:
    """List keys for a message; those that look the same are escaped."""
    same = len({*map(to_nfc, keys)}) < len(keys)
    quoted = [ascii(key) if same else f"{escape_unprintable(key)!r}" for key in keys[:_MAX_ALTERNATIVES]]
    more = [f"{len(keys) - len(quoted)} more"] if len(keys) > len(quoted) else []
    *others, last = quoted + more
    return f"{', '.join(others)} or {last}" if others else last


def _match_outside(uri: str) -> PhotoMatch:
    """Match a file outside the root, without its stamp."""
    junk = is_junk(uri.rpartition("/")[2])
    return PhotoMatch(uri, code="not-photo-name", reason=_JUNK_REASON) if junk else PhotoMatch(uri)


def _is_absolute(name: str) -> bool:
    return name.startswith("/") or _SCHEME.match(name) is not None


def _stem(key: str) -> str:
    name = to_nfc(key.rpartition("/")[2])
    stem, extension = splitext(name)
    return (stem if extension.lower() in PHOTO_EXTENSIONS else name).casefold()
