"""Which objects are photos, and where the photos are that a user names."""

from collections.abc import Iterator
from pathlib import Path
from posixpath import splitext

from runtime.errors import NotFoundError
from runtime.locations import open_store
from runtime.store import join_uri

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
    """The URIs of the photos at a local file or folder, or at an ``s3://`` object or prefix (any depth, in order).

    A single file is taken whatever its name.

    Raises:
        NotFoundError: there is nothing, or no photo in the folder.
    """
    if "://" in location:
        single = is_photo(location.rpartition("/")[2])
    else:
        single = not Path(location).expanduser().is_dir()
    if single:
        yield location
        return
    store = open_store(location)
    found = False
    for entry in store.entries():
        if is_photo(entry.key):
            found = True
            yield join_uri(store.uri, entry.key)
    if not found:
        raise NotFoundError("holds no photos", where=location)
