"""Which objects are photos, and where the photos are that a user names."""

import glob
from collections.abc import Iterator
from pathlib import Path
from posixpath import splitext

from transferlite.errors import NotFoundError
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".ico",
        ".icns",
        ".psd",
        ".dds",
        ".tga",
        ".pcx",
        ".mpo",
    ]
)
_JUNK = frozenset(
    [
        *["__macosx", "icon\r", "network trash folder", "temporary items"],  # macOS
        *["thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"],
        *["@eadir", "#recycle", "#snapshot", "lost+found", "__pycache__"],  # network drives, Linux, Python
    ]
)
"""Names in lower case: the file systems that they come from do not tell upper from lower."""


def is_junk(key: str) -> bool:
    """Whether a key is hidden, or what file managers and notebooks leave behind.

    Such folders may well hold photos: thumbnails (``@eaDir``) and deleted ones (``$RECYCLE.BIN``).
    """
    return any(part.startswith(".") or part.lower() in _JUNK for part in key.split("/"))


def is_photo(key: str) -> bool:
    """Whether a key is named like a photo, and is no junk."""
    return splitext(key)[1].lower() in SUFFIXES and not is_junk(key)


def find_photos(location: str) -> Iterator[str]:
    """The URIs of the photos at a local file, folder or pattern, or at an ``s3://`` object or prefix, in order.

    A folder or prefix is searched at any depth. A single file is taken whatever its name. A pattern is the shell's,
    with ``**`` for any depth; of what it matches, folders are searched, and files taken that are named like photos.

    Raises:
        NotFoundError: there is nothing, or no photo.
    """
    if "://" in location:
        single = is_photo(location.rpartition("/")[2])
    else:
        path = Path(location).expanduser()
        if glob.has_magic(location) and not path.exists():
            hint = "** stands for any depth: 'photos/**/*.jpg'"
            yield from _some(_matching(str(path)), NotFoundError("matches no photos", where=location, hint=hint))
            return
        single = not path.is_dir()
    if single:
        yield location
        return
    yield from _some(_below(location), NotFoundError("holds no photos", where=location))


def _below(location: str) -> Iterator[str]:
    store = open_store(location)
    return (join_uri(store.uri, entry.key) for entry in store.entries() if is_photo(entry.key))


def _matching(pattern: str) -> Iterator[str]:
    """What a shell's pattern matches, once each, though ``**`` matches a folder and what is in it."""
    fixed = len(pattern[: min(map(pattern.find, filter(pattern.__contains__, "*?[")))].rpartition("/")[0])
    taken = set()
    for name in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute ones
        for photo in _below(name) if Path(name).is_dir() else [name]:
            if photo not in taken and is_photo(photo[fixed:]):
                taken.add(photo)
                yield photo


def _some(photos: Iterator[str], otherwise: NotFoundError) -> Iterator[str]:
    """The photos; raises if there are none."""
    first = next(photos, None)
    if first is None:
        raise otherwise
    yield first
    yield from photos
