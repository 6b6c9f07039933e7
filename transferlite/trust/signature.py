"""A signature as data, in the JSON form of ``manifest.sig`` and channel pointers."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from transferlite.errors import BundleError, UntrustedError


@dataclass(frozen=True)
class Signature:
    """Signature of a document.

    Attributes:
        key: id of the signing key (:func:`transferlite.trust.keys.key_id`); selects the key to check with, proves
            nothing.
        value: base64 of 64 bytes (Ed25519) or of DER (ECDSA).
    """

    key: str
    value: str

    def to_json(self) -> bytes:
        """Return the content of ``manifest.sig``."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Signature":
        """Parse the content of ``manifest.sig``. Raises UntrustedError if it is damaged."""
        try:
            return cls.from_dict(json.loads(data))
        except (ValueError, RecursionError, BundleError):
            raise UntrustedError("the signature cannot be read", where=where) from None

    @classmethod
    def from_dict(cls, raw: Any) -> "Signature":
        """Parse a decoded JSON object. Raises BundleError if it is not a signature."""
        if not (isinstance(raw, dict) and isinstance(raw.get("key"), str) and isinstance(raw.get("value"), str)):
            raise BundleError("holds a signature that cannot be read")
        return cls(raw["key"], raw["value"])
