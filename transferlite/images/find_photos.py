"""Recognise photos by name and find them in folders, S3 prefixes and shell patterns."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from glob import has_magic
from pathlib import Path
from posixpath import splitext

from transferlite.errors import InputError, NotFoundError, TransferLiteError
from transferlite.storage.locations import open_store
from transferlite.storage.match_pattern import PathPattern
from transferlite.storage.os_errors import translate_os_errors
from transferlite.storage.store import join_uri
from transferlite.storage.walk_folder import SkippedEntry

PHOTO_EXTENSIONS = frozenset(
    [
        *[".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"],
        *[".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx"],
        *[".ico", ".icns", ".psd", ".dds", ".tga", ".pcx"],
    ]
)
_JUNK_NAMES = frozenset(
    [
        *["__macosx", "icon\r", "network trash folder", "temporary items"],  # macOS
        *["thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"],
        *["@eadir", "#recycle", "#snapshot", "lost+found", "__pycache__"],  # network drives, Linux, Python
    ]
)
"""File and folder names of file managers, in lower case: some file systems ignore case."""

_DOT_SEGMENTS = frozenset([".", ".."])


def is_junk(key: str) -> bool:
    """Return whether a key is hidden or left behind by a file manager or notebook.

    Such folders can hold photos: thumbnails (``@eaDir``) and deleted photos (``$RECYCLE.BIN``).
    """
    return any(
        (part.startswith(".") and part not in _DOT_SEGMENTS) or part.lower() in _JUNK_NAMES for part in key.split("/")
    )


def is_photo(key: str) -> bool:
    """Return whether a key has a photo's extension and is not junk."""
    return splitext(key)[1].lower() in PHOTO_EXTENSIONS and not is_junk(key)


def key_problem(key: str) -> str:
    """Return why no photo may have the key of this S3 object; empty if it may."""
    segments = key.split("/")
    if not _DOT_SEGMENTS.isdisjoint(segments):
        return "the key has a segment '.' or '..', which programs take for a folder"
    return "" if segments[-1] else "the key ends in a slash, as only a folder's may"


def may_hide_photos(skipped: SkippedEntry) -> bool:
    """Return whether an entry that a listing left out is named like a photo or may be a folder of photos."""
    return is_photo(skipped.key) or (skipped.may_be_folder and not is_junk(skipped.key))


OnError = Callable[[TransferLiteError], None]


def raise_error(error: TransferLiteError) -> None:
    """Raise the error."""
    raise error


def find_photos(location: str, on_error: OnError = raise_error) -> Iterator[str]:
    """Yield the URIs of the photos at a location, in order. Each real folder is searched once, whatever links exist.

    Args:
        location: a local file, folder or shell pattern, or an ``s3://`` object or prefix. Folders and prefixes are
            searched at any depth. A single file is returned whatever its name. A pattern may use ``**`` for any depth;
            it matches photos by name, and folders that are searched.
        on_error: receives the error of each folder that cannot be read, broken link, pipe and other entry that is named
            like a photo and is none.

    Raises:
        NotFoundError: the location does not exist or holds no photos.
        AccessDeniedError: the location itself cannot be read.
    """
    if "://" in location:
        is_single_file = is_photo(location.rpartition("/")[2])
    else:
        path = str(Path(location).expanduser())
        if has_magic(location) and not os.path.exists(path):  # noqa: PTH110 - Path raises without permission
            hint = "use ** for any depth: 'photos/**/*.jpg'"
            yield from _require_any(
                _photos_matching(path, on_error), NotFoundError("matches no photos", where=location, hint=hint)
            )
            return
        is_single_file = not os.path.isdir(path)  # noqa: PTH112
    if is_single_file:
        yield location
        return
    yield from _require_any(_photos_below(location, on_error), NotFoundError("holds no photos", where=location))


def _photos_below(location: str, on_error: OnError) -> Iterator[str]:
    store = open_store(location)
    for entry in store.entries(on_skip=partial(_report, on_error, join_uri(store.uri, ""))):
        if is_photo(entry.key.rstrip("/")):
            uri = join_uri(store.uri, entry.key)
            if problem := key_problem(entry.key):
                on_error(InputError(problem, where=uri, hint="rename it"))
            else:
                yield uri


def _photos_matching(pattern: str, on_error: OnError) -> Iterator[str]:
    """Yield the photos that match a shell pattern, each once, although links may lead to it on several paths."""
    path_pattern = PathPattern.split(pattern)
    root = path_pattern.root
    try:
        with translate_os_errors(Path(root)):
            walk = path_pattern.walk(is_junk)
    except NotFoundError:
        return
    skipped = {entry.key: entry for entry in walk.skipped}
    for key in _distinct_paths(root, skipped):
        _report(on_error, root, skipped[key])
    yield from (f"{root}{path}" for path in _distinct_paths(root, filter(is_photo, walk.files)))


def _distinct_paths(root: str, paths: Iterable[str]) -> list[str]:
    """Return the shortest of the paths that lead to the same name in the same real folder, in order.

    A pattern can match a real folder on several paths.
    """
    real_folder = cache(os.path.realpath)
    distinct: dict[tuple[str, str], str] = {}
    for path in sorted(paths, key=lambda path: (path.count("/"), path)):
        folder, slash, name = f"{root}{path}".rpartition("/")
        distinct.setdefault((real_folder(folder + slash), name), path)
    return sorted(distinct.values())


def _report(on_error: OnError, root: str, skipped: SkippedEntry) -> None:
    """Report an entry that a listing left out, unless it holds no photos or they are listed elsewhere.

    ``root`` is empty or ends in a slash.
    """
    if skipped.code != "duplicate" and may_hide_photos(skipped):
        on_error(skipped.to_error(f"{root}{skipped.key}"))


def _require_any(photos: Iterator[str], error: NotFoundError) -> Iterator[str]:
    """Yield the photos; raise ``error`` if there are none."""
    first = next(photos, None)
    if first is None:
        raise error
    yield first
    yield from photos
