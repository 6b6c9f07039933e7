"""``model.sig``: the signature of a model's files in the OpenSSF Model Signing format.

It is a sigstore bundle with a DSSE envelope over an in-toto statement, which lists the sha256 of every file.
``model_signing verify key`` (PyPI: model-signing) checks it, and :func:`signed_files` reads what
``model_signing sign key`` writes. Source: https://github.com/sigstore/model-transparency.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from transferlite.errors import BundleError, UntrustedError
from transferlite.trust.envelope import Envelope, Signature
from transferlite.trust.keys import PublicKeys, Signer, seal

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


def sign_files(model_id: str, digests: Mapping[str, str], signature_file: str, signer: Signer) -> bytes:
    """Return the content of ``signature_file`` beside files with these hexadecimal sha256 digests by relative path."""
    names = sorted(digests, key=lambda name: name.split("/"))
    all_digests = b"".join(bytes.fromhex(digests[name]) for name in names)
    statement = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": model_id, "digest": {"sha256": hashlib.sha256(all_digests).hexdigest()}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [signature_file],
            },
            "resources": [{"name": name, "algorithm": "sha256", "digest": digests[name]} for name in names],
        },
    }
    envelope = seal(_PAYLOAD_TYPE, json.dumps(statement).encode(), signer)
    (signature,) = envelope.signatures
    bundle = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": signature.key}, "tlogEntries": []},
        "dsseEnvelope": envelope.to_dict(),
    }
    return json.dumps(bundle).encode() + b"\n"


def signed_files(data: bytes, keys: PublicKeys, where: str) -> dict[str, str]:
    """Return the sha256 of each signed file by relative path, from the content of a ``model.sig``.

    Raises:
        UntrustedError: the content is damaged, or none of ``keys`` signed it.
    """
    envelope = _parse_bundle(data, where)
    keys.check(envelope, where)
    try:
        statement = json.loads(envelope.payload)
        if (statement["_type"], statement["predicateType"]) != (_STATEMENT_TYPE, _PREDICATE_TYPE):
            raise ValueError(f"a statement of type {statement['predicateType']}")
        resources = statement["predicate"]["resources"]
        return {item["name"]: item["digest"] for item in resources if item["algorithm"] == "sha256"}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UntrustedError(f"does not sign a model's files ({error})", where=where) from None


def named_key(data: bytes, where: str) -> str:
    """Return the id of the key that a ``model.sig`` names, unchecked. Raises UntrustedError if it is damaged."""
    return _parse_bundle(data, where).signatures[0].key


def _parse_bundle(data: bytes, where: str) -> Envelope:
    """Parse a sigstore bundle; its signatures get the key id that the bundle names."""
    try:
        raw: Any = json.loads(data)
        if raw["mediaType"] != _MEDIA_TYPE:
            raise ValueError("unknown media type")
        hint = raw["verificationMaterial"]["publicKey"].get("hint") or ""
        envelope = Envelope.from_dict(raw["dsseEnvelope"])
        if envelope.payload_type != _PAYLOAD_TYPE or not isinstance(hint, str) or not envelope.signatures:
            raise ValueError("not a signed statement")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, BundleError):
        raise UntrustedError("the signature cannot be read", where=where) from None
    signatures = tuple(Signature(key or hint, value) for key, value in envelope.signatures)
    return Envelope(envelope.payload_type, envelope.payload, signatures)
