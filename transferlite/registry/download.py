"""Files of a version brought to a folder: what is near is linked, what broke off goes on, what arrives is checked."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from transferlite.errors import BundleError, NotFoundError, UnavailableError
from transferlite.registry.local_bundle import check_files, read_manifest, sha256_of
from transferlite.registry.manifest import MANIFEST, FileInfo
from transferlite.storage.folder import (
    TEMPORARY_PREFIX,
    folder_lock,
    move_into_place,
    translate_os_errors,
    write_durably,
)
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

_ATTEMPTS = 4
"""How often in a row a download may break off without having got any further."""


def fetch_bundle(
    store: Store,
    prefix: str,
    documents: Mapping[str, bytes],
    files: Mapping[str, FileInfo],
    bundle: Path,
    spares: Iterable[Path] = (),
) -> None:
    """Have a version in the folder ``bundle``: its files as by :func:`fetch_files`, then its ``documents``.

    The documents are the manifest's signature, if there is one, and the manifest, which comes last: then the folder is
    a bundle.

    Raises:
        BundleError: a whole bundle with another manifest is there, which serves perhaps; or as :func:`fetch_files`.
    """
    with translate_os_errors(bundle):
        bundle.mkdir(parents=True, exist_ok=True)
    with folder_lock(bundle):  # two who pull into one cache would append to the same part
        _check_same(bundle, documents[MANIFEST])
        fetch_files(store, prefix, files, bundle, spares)
        for name, content in documents.items():
            path = bundle / name
            if not (path.is_file() and path.read_bytes() == content):
                write_durably(path, content)


def _check_same(bundle: Path, manifest: bytes) -> None:
    """Raises BundleError where a whole version is there whose manifest is another one."""
    try:
        if (bundle / MANIFEST).read_bytes() == manifest:
            return
        there = read_manifest(bundle)
        check_files(bundle, {name: info for name, info in there.files.items() if (bundle / name).exists()})
    except (FileNotFoundError, NotFoundError, BundleError):
        return  # nothing is there, or nothing whole
    raise BundleError(
        "the registry has another manifest of this version than was pulled before; a version never changes",
        where=str(bundle),
        hint="remove the folder to take the registry's",
    )


def fetch_files(
    store: Store, prefix: str, files: Mapping[str, FileInfo], bundle: Path, spares: Iterable[Path] = ()
) -> None:
    """Have each of ``files`` in the folder ``bundle``, with its sha256, each whole or not at all at any moment.

    Args:
        store: has them below ``prefix``.
        prefix: without a trailing slash.
        files: by path below ``bundle``.
        bundle: the folder to fill.
        spares: other bundles' folders, whose files of the same content are linked or copied.

    Raises:
        NotFoundError: the store lacks one.
        BundleError: what arrived does not have the sha256 or size.
        UnavailableError: the store gave no more answer; what has arrived is kept for the next call.
    """
    near = _by_content(spares)

    def fetch(name: str) -> None:
        info, path = files[name], bundle / name
        if matches_file(path, info):
            return
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            spare = near.get(info.sha256)
            if spare and matches_file(spare, info):
                arrived = _linked(spare, partial_path(path, info).with_suffix(".link"))
            else:
                arrived = partial_path(path, info)
                _download(store, f"{prefix}/{name}", info, arrived)
            move_into_place(arrived, path)

    for _ in prefetch_map(fetch, files, workers=8):
        pass


def partial_path(path: Path, info: FileInfo) -> Path:
    """The neighbour that holds what has arrived of a file: its own for each name and content."""
    name = hashlib.sha256(f"{info.sha256} {path.name}".encode()).hexdigest()
    return path.with_name(f"{TEMPORARY_PREFIX}{name}.part")


def matches_file(path: Path, info: FileInfo) -> bool:
    """Whether there is a file of that content."""
    return path.is_file() and path.stat().st_size == info.size and sha256_of(path) == info.sha256


def _by_content(bundles: Iterable[Path]) -> dict[str, Path]:
    found = {}
    for bundle in bundles:
        try:
            files = read_manifest(bundle).files
        except (BundleError, NotFoundError):
            continue
        found.update({info.sha256: bundle / name for name, info in files.items()})
    return found


def _linked(spare: Path, path: Path) -> Path:
    """The same content under another name, without a copy where the file system can."""
    path.unlink(missing_ok=True)
    try:
        os.link(spare, path)
    except OSError:
        shutil.copyfile(spare, path)  # FAT on a memory card has no hard links
    return path


def _download(store: Store, key: str, info: FileInfo, part: Path) -> None:
    """Fill the file ``part``, going on where it ends."""
    resumed = part.exists()
    _append_all(store, key, info, part)
    if not matches_file(part, info) and resumed:  # what was left may have been of something else
        part.unlink()
        _append_all(store, key, info, part)
    if not matches_file(part, info):
        size = part.stat().st_size
        part.unlink()
        what = f"{size} bytes, not {info.size}" if size != info.size else f"{size} bytes"
        raise BundleError(
            f"does not have the manifest's sha256 ({what})",
            where=join_uri(store.uri, key),
            hint="it was damaged or exchanged since it was published",
        )


def _append_all(store: Store, key: str, info: FileInfo, part: Path) -> None:
    """Append until the object ends, or is longer than it should be; anew from where it broke off, while that helps."""
    fruitless = 0
    while True:
        had = _size(part)
        try:
            return _append(store, key, info, part)
        except UnavailableError:
            fruitless = 0 if _size(part) > had else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise
            time.sleep(0.2 * fruitless)


def _append(store: Store, key: str, info: FileInfo, part: Path) -> None:
    with part.open("ab") as file:
        left = info.size - file.tell()
        if left < 0 or (left == 0 and info.size):
            return
        for block in store.stream(key, file.tell()):
            file.write(block[: left + 1])  # one byte more than there may be tells that there is more
            left -= len(block)
            if left < 0:
                return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
