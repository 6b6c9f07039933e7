"""Signing keys for tests, generated in each run."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import Store
from transferlite.trust.envelope import Envelope
from transferlite.trust.keys import LocalKey, Signer
from transferlite.trust.model_signature import sign_files


@cache
def ed25519(name: str = "owner") -> LocalKey:
    """Return the Ed25519 key of that name, always the same within a run."""
    return LocalKey(Ed25519PrivateKey.generate())


@cache
def p256(name: str = "owner") -> LocalKey:
    """Return the P-256 key of that name, always the same within a run."""
    return LocalKey(ec.generate_private_key(ec.SECP256R1()))


def owners(store: Store, key: LocalKey | None = None) -> Registry:
    """Open a registry as its owner does, with the signing key."""
    return Registry(store, None, key or ed25519())


def trusting(store: Store, *keys: LocalKey) -> Registry:
    """Open a registry as a device does, with public keys (default: the owner's)."""
    accepted, *others = [key.public_keys for key in keys or (ed25519(),)]
    for other in others:
        accepted = accepted | other
    return Registry(store, accepted)


def signature_of(manifest: bytes, signer: Signer) -> bytes:
    """Return the content of model.sig for a bundle with this manifest."""
    parsed = json.loads(manifest)
    digests = {path: info["sha256"] for path, info in parsed["files"].items()} | {
        MANIFEST: hashlib.sha256(manifest).hexdigest()
    }
    return sign_files(parsed["model_id"], digests, SIGNATURE, signer)


def forged(pointer: Pointer, **changes: Any) -> bytes:
    """Return a signed pointer's stored form with changed fields and the old signature."""
    assert pointer.envelope is not None
    changed = Envelope.from_dict(json.loads(replace(pointer, **changes).to_json()))
    return replace(pointer.envelope, payload=changed.payload).to_json()


def sign_digest(key: Any, message: bytes, signing_algorithm: str) -> bytes:
    """Sign a digest in place of moto's KMS method, which hashes the digest again."""
    assert signing_algorithm == "ECDSA_SHA_256"
    return bytes(key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))
