"""A signing key in AWS KMS, which never leaves it: ECDSA over P-256, of the document's SHA-256.

The caller needs ``kms:Sign`` and ``kms:GetPublicKey`` on the key.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transferlite.errors import AccessDeniedError, InputError, MissingExtraError, TransferLiteError, UnavailableError
from transferlite.trust.keys import KMS, PublicKeys, public_key_of_der
from transferlite.trust.signature import Signature

try:
    import boto3
    import botocore.exceptions as aws
    from botocore.config import Config
except ModuleNotFoundError:
    raise MissingExtraError("boto3", "s3") from None

_ALGORITHM = "ECDSA_SHA_256"
_MISSING = {"NotFoundException", "InvalidArnException", "ValidationException"}
_UNUSABLE = {
    "DisabledException",
    "KMSInvalidStateException",
    "InvalidKeyUsageException",
    "UnsupportedOperationException",
}
_LATER = {"ThrottlingException", "DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException"}


@dataclass(frozen=True)
class KmsKey:
    """An asymmetric key of AWS KMS, of key spec ``ECC_NIST_P256`` and usage ``SIGN_VERIFY``."""

    key: str
    public_keys: PublicKeys
    client: Any = field(repr=False, compare=False)

    @classmethod
    def open(cls, source: str) -> "KmsKey":
        """The key of ``awskms:///alias/NAME``, ``awskms:///KEY-ID`` or an ARN; KMS is asked for its public half.

        Raises:
            InputError: there is no such key, or it cannot sign so.
            AccessDeniedError: no credentials, or not the permission.
        """
        key = source.removeprefix(KMS)
        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else None
        with _explained(source):
            client = boto3.session.Session().client("kms", region_name=region, config=config)
            answer = client.get_public_key(KeyId=key)
        if _ALGORITHM not in answer.get("SigningAlgorithms", ()):
            raise InputError("is not a signing key of spec ECC_NIST_P256", where=source)
        return cls(key, PublicKeys.of(public_key_of_der(answer["PublicKey"], source)), client)

    def sign(self, data: bytes) -> Signature:
        """The signature of ``data``; KMS is sent its SHA-256 alone. Raises as :meth:`open`."""
        digest = hashlib.sha256(data).digest()
        with _explained(self.key):
            answer = self.client.sign(KeyId=self.key, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM)
        (key,) = self.public_keys.keys
        return Signature(key, base64.b64encode(answer["Signature"]).decode())


@contextmanager
def _explained(key: str) -> Iterator[None]:
    """Turn what KMS says of ``key`` into our errors."""
    try:
        yield
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        hint = "set AWS_PROFILE or run: aws login"
        raise AccessDeniedError("no AWS credentials found", where=key, hint=hint) from error
    except aws.ClientError as error:
        raise _refusal(key, error) from error
    except (aws.NoRegionError, aws.ParamValidationError, aws.ProfileNotFound) as error:
        raise InputError(" ".join(str(error).split()), where=key) from error
    except aws.BotoCoreError as error:
        raise UnavailableError(
            " ".join(str(error).split()), where=key, hint="check the network and try again"
        ) from error


def _refusal(key: str, error: aws.ClientError) -> TransferLiteError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = error.response.get("Error", {}).get("Message") or code
    if code in _MISSING:
        return InputError(f"there is no such key in AWS KMS ({text})", where=key, hint="check its name and region")
    if code in _UNUSABLE:
        return InputError(f"the key cannot sign ({text})", where=key)
    if code in _LATER:
        return UnavailableError(f"AWS KMS answered {code}", where=key, hint="try again later")
    if "AccessDenied" in code:
        return AccessDeniedError(f"access denied ({text})", where=key, hint="allow kms:Sign and kms:GetPublicKey")
    return TransferLiteError(f"AWS KMS answered {code}: {text}", where=key)
