"""Read a bundle in a local folder: find it, parse its manifest, verify its signature and files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite.errors import BundleError, NotFoundError
from transferlite.registry.manifest import MANIFEST, SIGNATURE, FileInfo, Manifest

if TYPE_CHECKING:  # a device without a key does not need cryptography
    from transferlite.trust.keys import PublicKeys

CURRENT = "current.json"
"""Pointer to the current bundle in a folder that ``transferlite models pull`` fills."""

_HASH_BLOCK = 2**20
"""Bytes hashed at a time: a smaller block makes threads wait for the GIL more often, a larger one raises the memory
peak."""


def describe_files(folder: Path) -> dict[str, FileInfo]:
    """Return the sha256 and size of every file below ``folder``, by relative path, without manifest and signature."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): FileInfo(sha256_of(path), path.stat().st_size) for path in paths}
    return {name: info for name, info in files.items() if name not in {MANIFEST, SIGNATURE}}


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(_HASH_BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def find_bundle(path: Path) -> Path:
    """Return a bundle's folder, given it or a folder that ``transferlite models pull`` fills.

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
    """Read the manifest of a bundle's folder, and check its signature if ``keys`` are given.

    Raises:
        NotFoundError: the folder holds no manifest.
        UntrustedError: none of ``keys`` signed the manifest.
        BundleError: the manifest is damaged.
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
    """Raise UntrustedError unless one of ``keys`` signed ``manifest``; ``signature`` is the content of manifest.sig."""
    from transferlite.trust.signature import Signature

    parsed = None if signature is None else Signature.from_json(signature, where.replace(MANIFEST, SIGNATURE))
    keys.check(manifest, parsed, where)


def check_files(bundle: Path, files: Mapping[str, FileInfo]) -> None:
    """Raise BundleError for the first file that is missing or does not have the manifest's sha256."""
    for name, info in files.items():
        path = bundle / name
        if not path.is_file():
            raise BundleError("a file of the bundle is missing", where=str(path), hint="pull the model again")
        if path.stat().st_size != info.size or sha256_of(path) != info.sha256:
            raise BundleError("does not have the manifest's sha256", where=str(path), hint="pull the model again")
