"""Read a bundle in a local folder: find it, parse its manifest, verify its signature and files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite.errors import BundleError, NotFoundError, UntrustedError
from transferlite.inference.variants import AUTO
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
        NotFoundError: there is no bundle; the message says what is there instead.
        BundleError: the folder's pointer is damaged.
    """
    if (path / CURRENT).is_file():
        path = path / _read_current_id(path)
        if not (path / MANIFEST).is_file():
            message = f"holds no bundle, although {CURRENT} points to it"
            raise NotFoundError(message, where=str(path), hint="pull the model again")
    if not (path / MANIFEST).is_file():
        message, hint = _no_bundle(path)
        raise NotFoundError(message, where=str(path), hint=hint)
    return path


def _read_current_id(folder: Path) -> str:
    from transferlite.registry.channel_pointer import Pointer

    try:
        return Pointer.from_json((folder / CURRENT).read_bytes(), str(folder / CURRENT)).model_id
    except BundleError as error:
        bundles = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        versions = f", or give the folder of a version: {', '.join(bundles)}" if bundles else ""
        hint = f"repair it with transferlite models pull or edge run{versions}"
        raise BundleError(error.message, where=error.where, hint=hint) from None


def _no_bundle(path: Path) -> tuple[str, str]:
    """Message and hint about a path that is not a bundle."""
    if path.suffix.lower() == ".tflite":
        return "is a file, not a bundle", f"use --model {path}"
    if path.is_file():
        return "is a file, not a bundle", "give the bundle's folder"
    if str(path).startswith("s3:/"):
        return "is not a local folder", "use --registry"
    if not path.exists():
        return "does not exist", "correct the path, or mount its disk"
    if (path / "models").is_dir():
        return "is a registry, not a bundle", f"use --registry {path}"
    return "holds no bundle (no manifest.json)", "fill it with transferlite models pull"


def choose_variant(bundle: Path, manifest: Manifest, variant: str | None) -> str:
    """Return ``variant``; for None or ``auto`` the manifest's choice or, if it is not held, the first variant held.

    Raises:
        NotFoundError: the model has no such variant, or it was not copied to this bundle.
    """
    held = [name for name in manifest.tflite_variants() if (bundle / manifest.variant(name).path).is_file()]
    auto = manifest.default_variant
    default = auto if auto in held or not held else held[0]
    chosen = default if variant in {None, AUTO} else str(variant)
    if held and not (bundle / manifest.variant(chosen).path).exists():
        hint = f"pull it, or use one that is there: {', '.join(held)}"
        raise NotFoundError(f"does not hold the variant {chosen}", where=str(bundle), hint=hint)
    return chosen


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
    """Raise UntrustedError unless one of ``keys`` signed ``manifest``; ``signature`` is the content of model.sig.

    The other signed files need no comparison: the manifest has their digests too, and is signed itself.
    """
    from transferlite.trust.model_signature import signed_files

    if signature is None:
        hint = "sign it where it is published: transferlite models sign"
        raise UntrustedError("is not signed, and a public key is configured", where=where, hint=hint)
    signed = signed_files(signature, keys, where.replace(MANIFEST, SIGNATURE))
    if signed.get(MANIFEST) != hashlib.sha256(manifest).hexdigest():
        raise UntrustedError(f"does not match its signature by {keys}: one of them was altered", where=where)


def check_files(bundle: Path, files: Mapping[str, FileInfo]) -> None:
    """Raise BundleError for the first file that is missing or does not have the manifest's sha256."""
    for name, info in files.items():
        path = bundle / name
        if not path.is_file():
            raise BundleError("a file of the bundle is missing", where=str(path), hint="pull the model again")
        if path.stat().st_size != info.size or sha256_of(path) != info.sha256:
            raise BundleError("does not have the manifest's sha256", where=str(path), hint="pull the model again")
