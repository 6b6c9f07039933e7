"""Recognise photos by name and find them in folders, S3 prefixes and shell patterns."""

import glob
from collections.abc import Iterator
from pathlib import Path
from posixpath import splitext

from transferlite.errors import NotFoundError
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri

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


def is_junk(key: str) -> bool:
    """Return whether a key is hidden or left behind by a file manager or notebook.

    Such folders can hold photos: thumbnails (``@eaDir``) and deleted photos (``$RECYCLE.BIN``).
    """
    return any(part.startswith(".") or part.lower() in _JUNK_NAMES for part in key.split("/"))


def is_photo(key: str) -> bool:
    """Return whether a key has a photo's extension and is not junk."""
    return splitext(key)[1].lower() in PHOTO_EXTENSIONS and not is_junk(key)


def find_photos(location: str) -> Iterator[str]:
    """Yield the URIs of the photos at a location, in order.

    Args:
        location: a local file, folder or shell pattern, or an ``s3://`` object or prefix. Folders and prefixes are
            searched at any depth. A single file is returned whatever its name. A pattern may use ``**`` for any depth;
            it matches photos by name, and folders that are searched.

    Raises:
        NotFoundError: the location does not exist or holds no photos.
    """
    if "://" in location:
        is_single_file = is_photo(location.rpartition("/")[2])
    else:
        path = Path(location).expanduser()
        if glob.has_magic(location) and not path.exists():
            hint = "use ** for any depth: 'photos/**/*.jpg'"
            yield from _require_any(
                _photos_matching(str(path)), NotFoundError("matches no photos", where=location, hint=hint)
            )
            return
        is_single_file = not path.is_dir()
    if is_single_file:
        yield location
        return
    yield from _require_any(_photos_below(location), NotFoundError("holds no photos", where=location))


def _photos_below(location: str) -> Iterator[str]:
    store = open_store(location)
    return (join_uri(store.uri, entry.key) for entry in store.entries() if is_photo(entry.key))


def _photos_matching(pattern: str) -> Iterator[str]:
    """Yield the photos that match a shell pattern, each once: ``**`` matches both a folder and its files."""
    # Only the part of a name that the pattern matched can be junk: the user spelled out the rest.
    fixed = len(pattern[: min(map(pattern.find, filter(pattern.__contains__, "*?[")))].rpartition("/")[0])
    seen = set()
    for name in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob rejects absolute patterns
        for photo in _photos_below(name) if Path(name).is_dir() else [name]:
            if photo not in seen and is_photo(photo[fixed:]):
                seen.add(photo)
                yield photo


def _require_any(photos: Iterator[str], error: NotFoundError) -> Iterator[str]:
    """Yield the photos; raise ``error`` if there are none."""
    first = next(photos, None)
    if first is None:
        raise error
    yield first
    yield from photos
