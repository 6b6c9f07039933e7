"""Match the names in a label file to photos, also names written by hand, on Windows or macOS, or from other folders."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from train_job.data.labels.listing import Listing
from transferlite.images.find_photos import PHOTO_EXTENSIONS, is_junk, key_problem
from transferlite.storage.store import join_uri

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators and bytes that are not UTF-8, which no printed name or label may contain."""

UNPRINTABLE_NAME = "the name has a character that cannot be printed"
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")
"""Characters that no name of a photo may contain; bytes that are not UTF-8 are kept as Python reads them (PEP 383)."""
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
    return UNPRINTABLE_NAME if _UNUSABLE.search(name) else key_problem(name)


def to_nfc(text: str) -> str:
    """Normalise to NFC, which keyboards write; macOS stores file names in NFD."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


Stamps = Mapping[str, str]
"""Stamps of listed files by key."""


class _AskedKeys(dict[str, str]):
    """A listing without any file that collects the keys it is asked for."""

    def __contains__(self, key: object) -> bool:
        self.setdefault(str(key), "")
        return False

    def __getitem__(self, key: str) -> str:
        return self.setdefault(key, "")


@dataclass(frozen=True)
class PhotoMatcher:
    """Matches names to the files listed below a root."""

    listing: Listing

    def match_all(self, names: Sequence[str]) -> list[PhotoMatch]:
        """Match names: relative to the root, absolute paths, or ``s3://`` URIs.

        An exact match with a key comes first. Of files outside the root, only local ones are checked for existence.
        """
        matches = self._match_known(names)
        missing = [name.strip() for name, match in zip(names, matches, strict=True) if match is None]
        similar = self._similar_keys(dict.fromkeys(missing))
        return [
            self._missing_match(name.strip(), similar) if match is None else match
            for name, match in zip(names, matches, strict=True)
        ]

    def any_listed(self, names: Sequence[str]) -> bool:
        """Return whether any name matches a listed file."""
        return any(match is not None and match.key for match in self._match_known(names))

    def _match_known(self, names: Sequence[str]) -> list[PhotoMatch | None]:
        """Match names; None where no file has one. All keys that names may mean are looked up in one go."""
        asked = _AskedKeys()
        for name in names:
            self._match_or_none(name, asked)
        stamps = self.listing.select(asked.keys())
        return [self._match_or_none(name, stamps) for name in names]

    def _match_or_none(self, name: str, stamps: Stamps) -> PhotoMatch | None:
        for exact in (name, name.removeprefix(self._roots[0])):
            if exact in stamps:
                return self._match_key(exact, stamps)
        name = name.strip()
        if _UNUSABLE.search(name):
            uri = escape_unprintable(join_uri(self.listing.root, name))
            return PhotoMatch(uri, code="bad-name", reason=UNPRINTABLE_NAME)
        if scheme := _SCHEME.match(name):
            return self._match_uri(name, scheme[1].lower(), name[scheme.end() :], stamps)
        return self._match_path(name, stamps) if name.startswith("/") else self._match_listed(name, stamps)

    def _match_uri(self, uri: str, scheme: str, path: str, stamps: Stamps) -> PhotoMatch | None:
        if scheme == "file":
            return self._match_path(path, stamps)
        if scheme not in _S3_SCHEMES:
            return PhotoMatch(uri, code="unusable", reason=f"{scheme}:// is not supported; give an s3:// URI or a path")
        uri = f"s3://{path}"
        return self._match_listed(uri, stamps) if uri.startswith(self._roots) else _match_outside(uri)

    def _match_path(self, path: str, stamps: Stamps) -> PhotoMatch | None:
        if not path.startswith(self._roots) and os.path.isfile(path):  # noqa: PTH113 (Path would raise for some names)
            return _match_outside(path)
        return self._match_listed(path, stamps)

    def _match_listed(self, name: str, stamps: Stamps) -> PhotoMatch | None:
        for key in self._candidate_keys(name):
            if key in stamps:
                return self._match_key(key, stamps)
        if not name.isascii() and self._keys_by_nfc:
            for key in self._candidate_keys(name):
                if same := self._keys_by_nfc.get(to_nfc(key)):
                    return self._match_key(same, stamps)
        skipped = self._candidate_keys(name) if self.listing.left_out else ()
        return next(filter(None, (self._match_skipped(key, stamps) for key in skipped)), None)

    def _match_skipped(self, key: str, stamps: Stamps) -> PhotoMatch | None:
        """Match a key that the listing left out, or that lies in a folder that it left out."""
        segments = key.split("/")
        for end in range(len(segments), 0, -1):
            entry = self.listing.left_out.get("/".join(segments[:end]))
            if entry is not None and entry.code == "duplicate":
                listed = "/".join(filter(None, (entry.same_as, *segments[end:])))
                return self._match_key(listed, stamps) if listed in stamps else self._match_skipped(listed, stamps)
            if entry is not None and (entry.key == key or entry.may_be_folder):
                reason = entry.reason if entry.key == key else f"its folder {entry.key!r} {entry.reason}"
                uri = escape_unprintable(join_uri(self.listing.root, key))
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
        root = self.listing.root
        roots = [root] if "://" in root else [root, str(Path(root).absolute())]
        return tuple(f"{root.rstrip('/')}/" for root in dict.fromkeys(roots))

    @cached_property
    def _root_suffixes(self) -> tuple[str, ...]:
        """Last folders of the root, the longest first: a name may be relative to a folder above the root."""
        root = self.listing.root
        parts = [part for part in root.partition("://")[2 if "://" in root else 0].split("/") if part]
        return tuple("/".join(parts[start:]) + "/" for start in range(len(parts)))

    @cached_property
    def _keys_by_nfc(self) -> Mapping[str, str]:
        """Keys that are not ASCII by their NFC form; empty where several keys share it."""
        keys: dict[str, str] = {}
        for key, _ in self.listing:
            if not key.isascii():
                normalised = to_nfc(key)
                keys[normalised] = "" if normalised in keys else key
        return keys

    def _match_key(self, key: str, stamps: Stamps) -> PhotoMatch:
        uri = join_uri(self.listing.root, key)
        if problem := name_problem(key):
            return PhotoMatch(escape_unprintable(uri), key, code="bad-name", reason=problem)
        if is_junk(key):
            return PhotoMatch(uri, key, code="not-photo-name", reason=_JUNK_REASON)
        return PhotoMatch(uri, key, stamps[key])

    def _missing_match(self, name: str, similar: Mapping[str, Sequence[str]]) -> PhotoMatch:
        keys = similar[name]
        reason = "there is no such file" + (f"; did you mean {_alternatives(keys)}?" if keys else "")
        uri = name if _is_absolute(name) else join_uri(self.listing.root, name)
        return PhotoMatch(uri, code="missing", reason=reason)

    def _similar_keys(self, names: Collection[str]) -> dict[str, Sequence[str]]:
        """Return for each name the keys that differ in URL encoding, case, extension or folder only."""
        paths = {name: name.replace("\\", "/") for name in names}
        decoded = {name: list(self._candidate_keys(unquote_plus(path))) for name, path in paths.items()}
        folded = {name: [key.casefold() for key in self._candidate_keys(to_nfc(path))] for name, path in paths.items()}
        by_fold: dict[str, list[str]] = {key: [] for keys in folded.values() for key in keys}
        by_stem: dict[str, list[str]] = {_stem(path): [] for path in paths.values()}
        for key, _ in self.listing if paths else ():
            if (fold := to_nfc(key).casefold()) in by_fold:
                by_fold[fold].append(key)
            if (stem := _stem(key)) in by_stem:
                by_stem[stem].append(key)
        known = self.listing.select({key for keys in decoded.values() for key in keys})
        return {
            name: next(
                ([key] for key in decoded[name] if key in known),
                next((by_fold[key] for key in folded[name] if by_fold[key]), by_stem[_stem(path)]),
            )
            for name, path in paths.items()
        }


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
