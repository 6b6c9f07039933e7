"""Fetch a version's files into a folder: link identical local files, resume interrupted downloads, verify sha256."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from transferlite.errors import BundleError, DiskFullError, NotFoundError, UnavailableError
from transferlite.registry.local_bundle import check_files, read_manifest, sha256_of
from transferlite.registry.manifest import MANIFEST, FileInfo
from transferlite.storage.atomic_write import TEMPORARY_PREFIX, move_into_place, write_durably
from transferlite.storage.folder import folder_lock
from transferlite.storage.os_errors import translate_os_errors
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store, join_uri

_MAX_STALLED_ATTEMPTS = 4
"""Consecutive attempts without any progress after which a download fails."""


_RESERVED_BYTES = 2**18
"""Space beside the files themselves: manifest, signature, state, and the file system's own blocks."""

OnFetch = Callable[[str, bool], object]
"""Receives the name of a fetched file, and whether it replaced a damaged one."""


def _ignore(_name: str, _is_repaired: bool) -> None:
    pass


def fetch_bundle(
    store: Store,
    prefix: str,
    documents: Mapping[str, bytes],
    files: Mapping[str, FileInfo],
    bundle: Path,
    reuse_from: Iterable[Path] = (),
    on_fetch: OnFetch = _ignore,
) -> None:
    """Fetch a version into the folder ``bundle``: its files with :func:`fetch_files`, then its ``documents``.

    The documents are the manifest's signature, if any, and last the manifest, which makes the folder a bundle.

    Raises:
        BundleError: the folder holds a complete bundle with another manifest; or as in :func:`fetch_files`.
    """
    with translate_os_errors(bundle):
        bundle.mkdir(parents=True, exist_ok=True)
    with folder_lock(bundle):  # two processes pulling into one cache would append to the same partial file
        _check_same_manifest(bundle, documents[MANIFEST])
        fetch_files(store, prefix, files, bundle, reuse_from, on_fetch)
        for name, content in documents.items():
            path = bundle / name
            is_there = path.is_file()
            if not (is_there and path.read_bytes() == content):
                write_durably(path, content)
                on_fetch(name, is_there)


def _check_same_manifest(bundle: Path, manifest: bytes) -> None:
    """Raise BundleError if the folder holds an intact version with another manifest."""
    try:
        if (bundle / MANIFEST).read_bytes() == manifest:
            return
        existing = read_manifest(bundle)
        check_files(bundle, {name: info for name, info in existing.files.items() if (bundle / name).exists()})
    except (FileNotFoundError, NotFoundError, BundleError):
        return  # there is no bundle, or a damaged one that may be replaced
    raise BundleError(
        "the registry's manifest of this version differs from the one pulled before; a version never changes",
        where=str(bundle),
        hint="delete the folder to pull the registry's version",
    )


def fetch_files(
    store: Store,
    prefix: str,
    files: Mapping[str, FileInfo],
    bundle: Path,
    reuse_from: Iterable[Path] = (),
    on_fetch: OnFetch = _ignore,
) -> None:
    """Fetch files into the folder ``bundle``, each verified and moved into place when complete.

    Args:
        store: holds the files below ``prefix``.
        prefix: without a trailing slash.
        files: sha256 and size by path below ``bundle``.
        bundle: the folder to fill.
        reuse_from: other bundles' folders; their files with the same content are linked or copied.
        on_fetch: receives the name of each file that was fetched, and whether it replaced a damaged one; called in
            several threads.

    Raises:
        NotFoundError: the store lacks a file.
        BundleError: a file does not have the expected sha256 or size.
        DiskFullError: the disk has too little space for the files; nothing was downloaded.
        UnavailableError: the store stopped responding; the next call resumes the download.
    """
    with translate_os_errors(bundle):
        bundle.mkdir(parents=True, exist_ok=True)
        _remove_unwanted_partials(bundle, files)
        missing = {name: info for name, info in files.items() if not matches_file(bundle / name, info)}
        local_files = _local_copies(missing, reuse_from)
        _check_space(bundle, {name: info for name, info in missing.items() if name not in local_files})

    def fetch(name: str) -> None:
        info, path = missing[name], bundle / name
        with translate_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            finished = partial_path(path, info)
            if name in local_files:
                finished = finished.with_suffix(".link")
                _link_or_copy(local_files[name], finished)
            else:
                _download(store, f"{prefix}/{name}", info, finished)
            is_there = path.exists()
            move_into_place(finished, path)
        on_fetch(name, is_there)

    for _ in prefetch_map(fetch, missing, workers=8):
        pass


def _remove_unwanted_partials(bundle: Path, files: Mapping[str, FileInfo]) -> None:
    """Delete what interrupted downloads and writes left in the bundle, except partial downloads of ``files``."""
    wanted = {partial_path(bundle / name, info) for name, info in files.items()}
    for path in bundle.rglob(f"{TEMPORARY_PREFIX}*"):
        if path not in wanted and path.is_file():
            path.unlink(missing_ok=True)


def _check_space(bundle: Path, files: Mapping[str, FileInfo]) -> None:
    """Raise DiskFullError if the disk of ``bundle`` has too little space to download ``files``."""
    missing = sum(max(info.size - _size(partial_path(bundle / name, info)), 0) for name, info in files.items())
    needed = missing + _RESERVED_BYTES
    if missing and needed > (free := shutil.disk_usage(bundle).free):
        raise DiskFullError(
            f"the disk has {free / 1e6:.1f} MB free, and the download needs {needed / 1e6 + 0.05:.1f} MB",
            where=str(bundle),
            hint="delete other files, or take a smaller variant, such as int8",
        )


def partial_path(path: Path, info: FileInfo) -> Path:
    """Return the path of a file's partial download: beside it, unique for its name and content."""
    name = hashlib.sha256(f"{info.sha256} {path.name}".encode()).hexdigest()
    return path.with_name(f"{TEMPORARY_PREFIX}{name}.part")


def matches_file(path: Path, info: FileInfo) -> bool:
    """Return whether the file exists and has this size and sha256."""
    return path.is_file() and path.stat().st_size == info.size and sha256_of(path) == info.sha256


def _local_copies(files: Mapping[str, FileInfo], bundles: Iterable[Path]) -> dict[str, Path]:
    """Find intact files of other local bundles with the content of ``files``; skip unreadable bundles."""
    paths = {}
    for bundle in bundles:
        try:
            others = read_manifest(bundle).files
        except (BundleError, NotFoundError):
            continue
        paths.update({info.sha256: bundle / name for name, info in others.items()})
    found = {name: paths[info.sha256] for name, info in files.items() if info.sha256 in paths}
    return {name: path for name, path in found.items() if matches_file(path, files[name])}


def _link_or_copy(source: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)  # FAT on a memory card has no hard links


def _download(store: Store, key: str, info: FileInfo, partial: Path) -> None:
    """Complete the file ``partial`` and verify it."""
    resumed = partial.exists()
    _append_with_retries(store, key, info, partial)
    if not matches_file(partial, info) and resumed:  # the leftover may have been damaged: start from zero
        partial.unlink()
        _append_with_retries(store, key, info, partial)
    if not matches_file(partial, info):
        size = partial.stat().st_size
        partial.unlink()
        sizes = f"{size} bytes, not {info.size}" if size != info.size else f"{size} bytes"
        raise BundleError(
            f"does not have the manifest's sha256 ({sizes})",
            where=join_uri(store.uri, key),
            hint="it was damaged or replaced after it was published",
        )


def _append_with_retries(store: Store, key: str, info: FileInfo, partial: Path) -> None:
    """Append until the object ends or exceeds its size; resume after a break as long as there is progress."""
    stalled = 0
    while True:
        size_before = _size(partial)
        try:
            return _append(store, key, info, partial)
        except UnavailableError:
            stalled = 0 if _size(partial) > size_before else stalled + 1
            if stalled == _MAX_STALLED_ATTEMPTS:
                raise
            time.sleep(0.2 * stalled)


def _append(store: Store, key: str, info: FileInfo, partial: Path) -> None:
    with partial.open("ab") as file:
        remaining = info.size - file.tell()
        if remaining < 0 or (remaining == 0 and info.size):
            return
        for block in store.stream(key, file.tell()):
            file.write(block[: remaining + 1])  # one extra byte reveals an object that is too long
            remaining -= len(block)
            if remaining < 0:
                return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
