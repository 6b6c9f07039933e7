"""Public keys that check signatures, and local private keys that sign.

A signature is Ed25519 (RFC 8032) or ECDSA over P-256 and SHA-256 (FIPS 186-5). The key's type selects the algorithm;
the document cannot.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transferlite.errors import InputError, MissingExtraError, UntrustedError
from transferlite.trust.envelope import Envelope, Signature, signed_bytes
from transferlite.trust.strict_base64 import decode_base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey
    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

KMS_PREFIX = "awskms:///"
_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.DOTALL)
_SUPPORTED_TYPES = "only Ed25519 and ECDSA P-256 keys are supported"


class Signer(Protocol):
    """A private key on this machine or in AWS KMS."""

    @property
    def public_keys(self) -> "PublicKeys":
        """The key's public half."""

    def sign(self, data: bytes) -> Signature:
        """Sign ``data``."""


def seal(payload_type: str, payload: bytes, signer: Signer) -> Envelope:
    """Create an envelope with the signer's signature."""
    return Envelope(payload_type, payload, (signer.sign(signed_bytes(payload_type, payload)),))


@dataclass(frozen=True)
class PublicKeys:
    """Accepted public keys by key id: usually one, two during a key rotation."""

    keys: "Mapping[str, PublicKey]"

    @classmethod
    def from_pem(cls, text: str, where: str) -> "PublicKeys":
        """Parse the public keys in PEM text.

        Raises:
            InputError: the text holds no public key, a private key, or a key of an unsupported type.
        """
        blocks = _PEM_BLOCK.findall(text)
        if any("PRIVATE" in kind for kind, _ in blocks):
            hint = "give the public key; print it with: transferlite keys show"
            raise InputError("is a private key", where=where, hint=hint)
        ders = [decode_base64("".join(body.split())) or b"" for kind, body in blocks if kind == "PUBLIC KEY"]
        if not ders:
            raise InputError("holds no public key in PEM", where=where)
        return cls.from_keys(*(public_key_from_der(der, where) for der in ders))

    @classmethod
    def from_keys(cls, *keys: "PublicKey") -> "PublicKeys":
        """Index keys by their key ids."""
        return cls({key_id(key): key for key in keys})

    def __or__(self, others: "PublicKeys") -> "PublicKeys":
        return PublicKeys({**self.keys, **others.keys})

    def check(self, envelope: Envelope, where: str) -> None:
        """Raise UntrustedError unless one of the keys signed the envelope."""
        if not envelope.signatures:
            raise UntrustedError("is not signed, and a public key is configured", where=where)
        named = " and ".join(short_key_id(signature.key) for signature in envelope.signatures)
        pairs = [
            (key, signature.value)
            for signature in envelope.signatures
            for name, key in self.keys.items()
            if signature.key in {name, ""}
        ]
        if not pairs:
            raise UntrustedError(f"is signed with another key ({named}; accepted: {self})", where=where)
        data = signed_bytes(envelope.payload_type, envelope.payload)
        if not any(_is_valid(key, value, data) for key, value in pairs):
            raise UntrustedError(
                f"does not match its signature by {named or self}: one of them was altered", where=where
            )

    def __str__(self) -> str:
        return ", ".join(short_key_id(name) for name in self.keys)

    def to_pem(self) -> str:
        """Return the keys as PEM text."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return "".join(key.public_bytes(*form).decode() for key in self.keys.values())


@dataclass(frozen=True)
class LocalKey:
    """A private key from a PEM file."""

    key: "PrivateKey"

    @classmethod
    def read(cls, path: Path) -> "LocalKey":
        """Read an unencrypted PEM file. Raises InputError if it holds no supported private key."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
        with require_cryptography():
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        try:
            key = load_pem_private_key(data, None)
        except TypeError:
            hint = "decrypt it with: openssl pkey -in KEY -out PLAIN"
            raise InputError("is encrypted with a passphrase", where=str(path), hint=hint) from None
        except (ValueError, UnsupportedAlgorithm):
            raise InputError("holds no private key in PEM", where=str(path)) from None
        if not _is_supported(key.public_key()):
            raise InputError("holds a key of an unsupported type", where=str(path), hint=_SUPPORTED_TYPES)
        return cls(key)  # type: ignore[arg-type]

    @property
    def public_keys(self) -> PublicKeys:
        """The key's public half."""
        return PublicKeys.from_keys(self.key.public_key())

    def sign(self, data: bytes) -> Signature:
        """Sign ``data``."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            value = self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        else:
            value = self.key.sign(data)
        return Signature(key_id(self.key.public_key()), value)


def create_key(private: Path, public: Path) -> PublicKeys:
    """Create a P-256 key pair and write both halves as PEM files; only the owner may read ``private``.

    Other OpenSSF Model Signing tools accept this type too.

    Raises:
        InputError: one of the files exists; keys are never overwritten.
    """
    with require_cryptography():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    if public.exists():
        raise InputError("exists already", where=str(public), hint="choose another name")
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError("exists already", where=str(private), hint="choose another name") from None
    with os.fdopen(handle, "wb") as file:
        file.write(key.private_bytes(*form))
    keys = PublicKeys.from_keys(key.public_key())
    public.write_text(keys.to_pem())
    return keys


def key_id(key: "PublicKey") -> str:
    """Return the hexadecimal sha256 of the public key's PEM, which OpenSSF Model Signing uses as a hint."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def short_key_id(name: str) -> str:
    """Return the start of a key id, for messages."""
    return name[:16]


def public_key_from_der(der: bytes, where: str) -> "PublicKey":
    """Parse a public key in DER. Raises InputError if it is not a supported public key."""
    with require_cryptography():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("holds no public key", where=where) from None
    if not _is_supported(key):
        raise InputError("holds a key of an unsupported type", where=where, hint=_SUPPORTED_TYPES)
    return key  # type: ignore[return-value]


def _is_supported(key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    return p256 or isinstance(key, Ed25519PublicKey)


def _is_valid(key: "PublicKey", signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


@contextmanager
def require_cryptography() -> Iterator[None]:
    """Turn a failed import of ``cryptography`` into a MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError:
        raise MissingExtraError("cryptography", "signed") from None
