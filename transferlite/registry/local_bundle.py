"""A bundle in a local folder: find it, read its manifest, check its files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.manifest import MANIFEST, SIGNATURE, FileInfo, Manifest

if TYPE_CHECKING:  # a device without a key does without
    from transferlite.trust.keys import PublicKeys

CURRENT = "current.json"


_READ_AT_ONCE = 2**20
"""Bytes hashed in one go. With fewer a thread waits more often for its turn; more stay in the peak of memory."""


def describe_files(folder: Path) -> dict[str, FileInfo]:
    """Every file below ``folder`` but a manifest and its signature: sha256 and size, by relative path, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): FileInfo(sha256_of(path), path.stat().st_size) for path in paths}
    return {name: info for name, info in found.items() if name not in {MANIFEST, SIGNATURE}}


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    part = memoryview(bytearray(_READ_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(part):
            digest.update(part[:count])
    return digest.hexdigest()


def find_bundle(path: Path) -> Path:
    """The bundle's own folder, for a path to it or to a folder that ``transferlite models pull`` fills.

    Raises:
        NotFoundError: there is no bundle.
    """
    if (path / CURRENT).is_file():
        from transferlite.registry.channel_pointer import Pointer

        path = path / Pointer.from_json((path / CURRENT).read_bytes(), str(path / CURRENT)).model_id
    if not (path / MANIFEST).is_file():
        raise NotFoundError("holds no bundle (no manifest.json)", where=str(path))
    return path


def read_manifest(bundle: Path, keys: "PublicKeys | None" = None) -> Manifest:
    """The manifest of a bundle's folder.

    Raises:
        NotFoundError: the folder holds none.
        UntrustedError: ``keys`` are given, and none of them signed it.
        BundleError: it is damaged.
    """
    path, signature = bundle / MANIFEST, bundle / SIGNATURE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("holds no bundle (no manifest.json)", where=str(bundle)) from None
    if keys is not None:
        check_signature(keys, data, signature.read_bytes() if signature.is_file() else None, str(path))
    return Manifest.from_json(data, str(path))


def check_signature(keys: "PublicKeys", manifest: bytes, signature: bytes | None, where: str) -> None:
    """Raises UntrustedError unless ``signature``, of a ``manifest.sig``, is one of ``manifest`` by one of ``keys``."""
    from transferlite.trust.signature import Signature

    made = None if signature is None else Signature.from_json(signature, where.replace(MANIFEST, SIGNATURE))
    keys.check(manifest, made, where)


def check_files(bundle: Path, files: Mapping[str, FileInfo]) -> None:
    """Compare files with the manifest's sha256. Raises BundleError naming the first that is missing or differs."""
    for name, info in files.items():
        path = bundle / name
        if not path.is_file():
            raise BundleError("a file of the bundle is missing", where=str(path), hint="pull the model again")
        if path.stat().st_size != info.size or sha256_of(path) != info.sha256:
            raise BundleError("does not have the manifest's sha256", where=str(path), hint="pull the model again")
