"""Signing keys of every kind."""

from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.kms import utils as moto_kms

from tests.transferlite import keys
from transferlite.trust.keys import Signer
from transferlite.trust.kms import KmsKey


@pytest.fixture(params=["ed25519", "p256", "kms"])
def signer(request: pytest.FixtureRequest) -> Signer:
    """Return a signing key of each kind."""
    if request.param == "kms":
        return KmsKey.open(request.getfixturevalue("kms_alias"))
    return keys.ed25519() if request.param == "ed25519" else keys.p256()


@pytest.fixture
def kms_alias(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Create a P-256 key in moto's KMS and return its alias."""
    monkeypatch.setattr(moto_kms.ECDSAPrivateKey, "sign", keys.sign_digest)
    with mock_aws():
        client = boto3.client("kms")
        metadata = client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]
        client.create_alias(AliasName="alias/models", TargetKeyId=metadata["KeyId"])
        yield "awskms:///alias/models"
