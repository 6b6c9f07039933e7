"""A document's signature as data: which key made it, and its value."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from transferlite.errors import BundleError, UntrustedError


@dataclass(frozen=True)
class Signature:
    """A document's signature.

    Attributes:
        key: the id of the key that made it (:func:`key_id`): a hint which key to check it with, and no more.
        value: the signature in base64; Ed25519's 64 bytes, or ECDSA's DER.
    """

    key: str
    value: str

    def to_json(self) -> bytes:
        """The content of ``manifest.sig``."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Signature":
        """Read what :meth:`to_json` wrote. Raises UntrustedError when it is damaged."""
        try:
            return cls.from_dict(json.loads(data))
        except (ValueError, RecursionError, BundleError):
            raise UntrustedError("the signature cannot be read", where=where) from None

    @classmethod
    def from_dict(cls, raw: Any) -> "Signature":
        """Read a decoded JSON object. Raises BundleError when it is none of a signature."""
        if not (isinstance(raw, dict) and isinstance(raw.get("key"), str) and isinstance(raw.get("value"), str)):
            raise BundleError("holds a signature that cannot be read")
        return cls(raw["key"], raw["value"])
