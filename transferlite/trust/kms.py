"""Sign with an AWS KMS key, which never leaves KMS: ECDSA over P-256, of the document's SHA-256.

The caller needs ``kms:Sign`` and ``kms:GetPublicKey`` on the key.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transferlite.errors import AccessDeniedError, InputError, MissingExtraError, TransferLiteError, UnavailableError
from transferlite.trust.envelope import Signature
from transferlite.trust.keys import KMS_PREFIX, PublicKeys, public_key_from_der

try:
    import boto3
    import botocore.exceptions as aws
    from botocore.config import Config
except ModuleNotFoundError:
    raise MissingExtraError("boto3", "s3") from None

_ALGORITHM = "ECDSA_SHA_256"
_UNKNOWN_KEY_CODES = {"NotFoundException", "InvalidArnException", "ValidationException"}
_UNUSABLE_KEY_CODES = {
    "DisabledException",
    "KMSInvalidStateException",
    "InvalidKeyUsageException",
    "UnsupportedOperationException",
}
_RETRYABLE_CODES = {
    "ThrottlingException",
    "DependencyTimeoutException",
    "KMSInternalException",
    "KeyUnavailableException",
}


@dataclass(frozen=True)
class KmsKey:
    """An asymmetric AWS KMS key of key spec ``ECC_NIST_P256`` and usage ``SIGN_VERIFY``."""

    key: str
    public_keys: PublicKeys
    client: Any = field(repr=False, compare=False)

    @classmethod
    def open(cls, source: str) -> "KmsKey":
        """Open the key of ``awskms:///alias/NAME``, ``awskms:///KEY-ID`` or an ARN, and fetch its public half.

        Raises:
            InputError: the key does not exist, or is not a signing key of this spec.
            AccessDeniedError: credentials are missing or lack the permission.
        """
        key = source.removeprefix(KMS_PREFIX)
        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else None
        with _translate_errors(source):
            client = boto3.session.Session().client("kms", region_name=region, config=config)
            response = client.get_public_key(KeyId=key)
        if _ALGORITHM not in response.get("SigningAlgorithms", ()):
            raise InputError("is not a signing key of spec ECC_NIST_P256", where=source)
        return cls(key, PublicKeys.from_keys(public_key_from_der(response["PublicKey"], source)), client)

    def sign(self, data: bytes) -> Signature:
        """Sign ``data``; KMS receives only its SHA-256. Raises the errors of :meth:`open`."""
        digest = hashlib.sha256(data).digest()
        with _translate_errors(self.key):
            response = self.client.sign(
                KeyId=self.key, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM
            )
        (key_id,) = self.public_keys.keys
        return Signature(key_id, response["Signature"])


@contextmanager
def _translate_errors(key: str) -> Iterator[None]:
    """Turn boto's errors about ``key`` into TransferLite's."""
    try:
        yield
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        hint = "set AWS_PROFILE or run: aws login"
        raise AccessDeniedError("no AWS credentials found", where=key, hint=hint) from error
    except aws.ClientError as error:
        raise _error_of_code(key, error) from error
    except (aws.NoRegionError, aws.ParamValidationError, aws.ProfileNotFound) as error:
        raise InputError(" ".join(str(error).split()), where=key) from error
    except aws.BotoCoreError as error:
        raise UnavailableError(
            " ".join(str(error).split()), where=key, hint="check the network and try again"
        ) from error


def _error_of_code(key: str, error: aws.ClientError) -> TransferLiteError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = error.response.get("Error", {}).get("Message") or code
    if code in _UNKNOWN_KEY_CODES:
        return InputError(f"there is no such key in AWS KMS ({text})", where=key, hint="check its name and region")
    if code in _UNUSABLE_KEY_CODES:
        return InputError(f"the key cannot sign ({text})", where=key)
    if code in _RETRYABLE_CODES:
        return UnavailableError(f"AWS KMS returned {code}", where=key, hint="try again later")
    if "AccessDenied" in code:
        return AccessDeniedError(f"access denied ({text})", where=key, hint="allow kms:Sign and kms:GetPublicKey")
    return TransferLiteError(f"AWS KMS returned {code}: {text}", where=key)
