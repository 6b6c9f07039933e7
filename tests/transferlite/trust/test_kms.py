"""Signing with AWS KMS, on moto."""

from typing import Any

import boto3
import pytest

from transferlite.errors import AccessDeniedError, InputError
from transferlite.trust.keys import seal
from transferlite.trust.kms import KmsKey
from transferlite.trust.open_keys import (
    _kms_public_keys,
    configured_public_keys,
    open_signer,
    public_keys_of,
)


def test_kms_receives_only_the_digest(kms_alias: str) -> None:
    key = KmsKey.open(kms_alias)
    sent: list[Any] = []
    key.client.meta.events.register("provide-client-params.kms.Sign", lambda params, **_: sent.append(params))
    key.sign(b"x" * 100_000)
    (params,) = sent
    assert params["MessageType"] == "DIGEST"
    assert len(params["Message"]) == 32


def test_a_kms_key_is_opened_by_alias_id_or_arn(kms_alias: str) -> None:
    arn = boto3.client("kms").describe_key(KeyId="alias/models")["KeyMetadata"]["Arn"]
    (expected,) = KmsKey.open(kms_alias).public_keys.keys
    for name in (arn, f"awskms:///{arn.rpartition('/')[2]}", f"awskms:///{arn}"):
        opened = open_signer(name)
        assert opened is not None
        assert list(opened.public_keys.keys) == [expected]
    assert list(public_keys_of(kms_alias).keys) == [expected]


def test_the_public_half_of_a_kms_key_is_fetched_once_per_process(
    kms_alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kms_public_keys.cache_clear()
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", kms_alias)
    envelope = seal("text/plain", b"x", KmsKey.open(kms_alias))
    first = configured_public_keys()
    assert first is not None
    first.check(envelope, "")
    boto3.client("kms").delete_alias(AliasName="alias/models")
    assert configured_public_keys() is first
    _kms_public_keys.cache_clear()


def test_a_missing_or_unsuitable_kms_key_is_an_input_error(kms_alias: str) -> None:
    with pytest.raises(InputError, match=r"awskms:///alias/none: there is no such key in AWS KMS"):
        open_signer("awskms:///alias/none")
    other = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["KeyId"]
    with pytest.raises(InputError, match="is not a signing key of spec ECC_NIST_P256"):
        open_signer(f"awskms:///{other}")


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("AccessDeniedException", AccessDeniedError, "allow kms:Sign and kms:GetPublicKey"),
        ("DisabledException", InputError, "the key cannot sign"),
        ("KMSInternalException", Exception, "try again later"),
        ("Odd", Exception, "AWS KMS returned Odd"),
    ],
)
def test_a_kms_error_becomes_a_transferlite_error(
    kms_alias: str, code: str, kind: type[Exception], message: str
) -> None:
    key = KmsKey.open(kms_alias)
    error = {"Error": {"Code": code, "Message": "for a test"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    response = type("Response", (), {"status_code": 400})()
    key.client.meta.events.register("before-call.kms.Sign", lambda **_: (response, error))
    with pytest.raises(kind, match=message):
        key.sign(b"x")
