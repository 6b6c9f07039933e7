"""Signing keys for tests, made anew in each run."""

from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from transferlite.registry.open_registry import Registry
from transferlite.storage.store import Store
from transferlite.trust.keys import LocalKey


@cache
def ed25519(name: str = "owner") -> LocalKey:
    """The key of that name."""
    return LocalKey(Ed25519PrivateKey.generate())


@cache
def p256(name: str = "owner") -> LocalKey:
    """The key of that name."""
    return LocalKey(ec.generate_private_key(ec.SECP256R1()))


def owners(store: Store, key: LocalKey | None = None) -> Registry:
    """The registry as its owner opens it: with the signing key."""
    return Registry(store, None, key or ed25519())


def trusting(store: Store, *keys: LocalKey) -> Registry:
    """The registry as a device opens it: with public keys, by default the owner's."""
    first, *others = [key.public_keys for key in keys or (ed25519(),)]
    for other in others:
        first = first | other
    return Registry(store, first)


def sign_digest(key: Any, message: bytes, signing_algorithm: str) -> bytes:
    """How a key of moto's KMS is to sign, in place of its method: moto hashes even a digest once more."""
    assert signing_algorithm == "ECDSA_SHA_256"
    return bytes(key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))
