"""DSSE envelopes: signed bytes together with their signatures.

The envelope keeps the exact bytes that were signed, so that fields which this release does not know stay under the
signature. Source: https://github.com/secure-systems-lab/dsse.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from transferlite.errors import BundleError
from transferlite.trust.strict_base64 import decode_base64

_MAX_SIGNATURES = 10
"""Signatures of one envelope: more are damage, and each costs time to check."""


class Signature(NamedTuple):
    """Signature of an envelope.

    Attributes:
        key: id of the signing key (:func:`transferlite.trust.keys.key_id`), or empty; selects the key to check with,
            proves nothing.
        value: 64 bytes (Ed25519) or DER (ECDSA).
    """

    key: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """Bytes of a declared type with their signatures.

    Attributes:
        payload_type: media type of the payload; signed too, so that a document cannot pass as one of another kind.
        payload: the signed bytes.
        signatures: any number; empty if the payload is not signed.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of the DSSE specification."""
        signatures = [{"keyid": key, "sig": _to_base64(value)} for key, value in self.signatures]
        return {"payloadType": self.payload_type, "payload": _to_base64(self.payload), "signatures": signatures}

    def to_json(self) -> bytes:
        """Return :meth:`to_dict` as a file's content."""
        return json.dumps(self.to_dict()).encode() + b"\n"

    @classmethod
    def from_dict(cls, raw: Any) -> "Envelope":
        """Parse a decoded JSON object. Raises BundleError if it is not an envelope."""
        try:
            payload = decode_base64(raw["payload"])
            signatures = tuple(_parse_signature(item) for item in raw["signatures"])
            payload_type = raw["payloadType"]
        except (LookupError, TypeError, AttributeError, ValueError):
            raise BundleError("the signed envelope cannot be read") from None
        if payload is None or not isinstance(payload_type, str) or len(signatures) > _MAX_SIGNATURES:
            raise BundleError("the signed envelope cannot be read")
        return cls(payload_type, payload, signatures)


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """Return what a signature covers: DSSE's pre-authentication encoding of type and payload."""
    name = payload_type.encode()
    return b" ".join((b"DSSEv1", b"%d" % len(name), name, b"%d" % len(payload), payload))


def _parse_signature(raw: Any) -> Signature:
    key, value = raw.get("keyid") or "", decode_base64(raw["sig"])
    if value is None or not isinstance(key, str):
        raise ValueError("not a signature")
    return Signature(key, value)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
