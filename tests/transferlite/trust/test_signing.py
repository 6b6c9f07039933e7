import base64
import datetime
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from moto import mock_aws
from moto.kms import utils as moto_kms

from tests.conftest import BUCKET
from tests.transferlite import keys as made
from tests.transferlite.bundles import write_bundle
from tests.transferlite.faults import refuse
from tests.transferlite.keys import owners, trusting
from transferlite.errors import AccessDeniedError, BundleError, InputError, UntrustedError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.registry.versions import utc_now
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import MemoryStore
from transferlite.trust.keys import LocalKey, Signer, create_key
from transferlite.trust.kms import KmsKey
from transferlite.trust.open_keys import (
    _kms_public_keys,
    configured_public_keys,
    open_signer,
    public_keys_of,
    read_public_keys,
)
from transferlite.trust.signature import Signature

PRIVATE = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
)


def pem(key: Any, secret: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    return bytes(key.private_bytes(*PRIVATE, encryption))


@pytest.fixture(params=["ed25519", "p256", "kms"])
def signer(request: pytest.FixtureRequest) -> Signer:
    if request.param == "kms":
        return KmsKey.open(request.getfixturevalue("kms_alias"))
    return made.ed25519() if request.param == "ed25519" else made.p256()


@pytest.fixture
def kms_alias(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An alias of a P-256 key in moto's KMS."""
    monkeypatch.setattr(moto_kms.ECDSAPrivateKey, "sign", made.sign_digest)
    with mock_aws():
        client = boto3.client("kms")
        key = client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]
        client.create_alias(AliasName="alias/models", TargetKeyId=key["KeyId"])
        yield "awskms:///alias/models"


# -- signatures ------------------------------------------------------------------------------------------------------


def test_a_signature_holds_for_the_signed_bytes_alone(signer: Signer) -> None:
    signature = signer.sign(b"a manifest of any length " * 1000)
    signer.public_keys.check(b"a manifest of any length " * 1000, signature, "here")
    with pytest.raises(UntrustedError, match=r"here: does not fit its signature by [0-9a-f]{16}"):
        signer.public_keys.check(b"another manifest", signature, "here")


def test_a_signature_survives_its_file(signer: Signer) -> None:
    signature = signer.sign(b"x")
    assert Signature.from_json(signature.to_json()) == signature


def test_another_key_is_named_with_those_that_are_accepted(signer: Signer) -> None:
    stranger = made.ed25519("stranger")
    (theirs,), (ours,) = stranger.public_keys.keys, signer.public_keys.keys
    with pytest.raises(UntrustedError, match=rf"is signed with another key \({theirs}; accepted: {ours}\)"):
        signer.public_keys.check(b"x", stranger.sign(b"x"), "here")


def test_a_key_that_claims_another_s_id_is_refused(signer: Signer) -> None:
    (ours,) = signer.public_keys.keys
    forged = replace(made.ed25519("stranger").sign(b"x"), key=ours)
    with pytest.raises(UntrustedError, match="does not fit its signature"):
        signer.public_keys.check(b"x", forged, "here")


@pytest.mark.parametrize("value", ["", "!", "QQ==", base64.b64encode(bytes(64)).decode(), "A" * 10000])
def test_what_is_no_signature_is_refused(signer: Signer, value: str) -> None:
    (ours,) = signer.public_keys.keys
    with pytest.raises(UntrustedError, match="does not fit its signature"):
        signer.public_keys.check(b"x", Signature(ours, value), "here")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"key": 7, "value": ""}', b'{"key": ""}', b"[" * 10**5])
def test_a_damaged_signature_file_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError, match=r"manifest\.sig: the signature cannot be read"):
        Signature.from_json(data, "manifest.sig")


def test_either_of_two_accepted_keys_will_do() -> None:
    both = made.ed25519("new").public_keys | made.p256("old").public_keys
    for key in (made.ed25519("new"), made.p256("old")):
        both.check(b"x", key.sign(b"x"), "here")


def test_openssl_checks_a_signature_too(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    key = made.ed25519()
    for name, content in {"manifest": b"content", "raw": base64.b64decode(key.sign(b"content").value)}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "key.pem").write_text(key.public_keys.to_pem())
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in"]
    done = subprocess.run([*words, "manifest", "-sigfile", "raw"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "manifest").write_bytes(b"contend")
    done = subprocess.run([*words, "manifest", "-sigfile", "raw"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_new_key_signs_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    created = create_key(tmp_path / "k.pem", tmp_path / "k.pub.pem")
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    signer = open_signer(str(tmp_path / "k.pem"))
    assert signer is not None
    read_public_keys(str(tmp_path / "k.pub.pem")).check(b"x", signer.sign(b"x"), "")
    assert list(created.keys) == list(public_keys_of(str(tmp_path / "k.pem")).keys)
    assert list(created.keys) == list(public_keys_of(str(tmp_path / "k.pub.pem")).keys)


@pytest.mark.parametrize("there", ["k.pem", "k.pub.pem"])
def test_no_key_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        create_key(tmp_path / "k.pem", tmp_path / "k.pub.pem")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_key_is_read_in_every_form_it_is_given_in(tmp_path: Path) -> None:
    key, other = made.p256().public_keys, made.ed25519().public_keys
    text = key.to_pem()
    (tmp_path / "key.pem").write_text(text)
    (tmp_path / "two.pem").write_text("# the old one\n" + text + "\n# the new one\n" + other.to_pem())
    der = "".join(text.splitlines()[1:-1])  # as `aws kms get-public-key --query PublicKey --output text` prints it
    for source in (str(tmp_path / "key.pem"), text, text.replace("\n", " "), der):
        assert list(read_public_keys(source).keys) == list(key.keys)
    assert set(read_public_keys(str(tmp_path / "two.pem")).keys) == {*key.keys, *other.keys}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no public key in PEM"),
        (b"\xff\xfe", "there is no such public key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "is a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n", "holds no public key"),
    ],
)
def test_what_is_no_public_key_is_an_input_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_public_keys(str(tmp_path / "key"))


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_keys_of_other_types_are_refused(tmp_path: Path, key: Any) -> None:
    (tmp_path / "key").write_bytes(pem(key))
    with pytest.raises(InputError, match="it has to be Ed25519 or ECDSA P-256"):
        LocalKey.read(tmp_path / "key")
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InputError, match="it has to be Ed25519 or ECDSA P-256"):
        read_public_keys(key.public_key().public_bytes(*form).decode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no key", "holds no private key"),
        (pem(ed25519.Ed25519PrivateKey.generate(), b"secret"), "is encrypted"),
        (made.ed25519().public_keys.to_pem().encode(), "holds no private key"),
    ],
)
def test_what_is_no_private_key_is_an_input_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_signer(str(tmp_path / "key"))
    with pytest.raises(InputError, match="cannot be read"):
        open_signer(str(tmp_path / "none"))


def test_without_a_source_there_is_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert configured_public_keys() is None
    assert open_signer(None) is None
    (tmp_path / "key.pem").write_text(made.ed25519().public_keys.to_pem())
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", str(tmp_path / "key.pem"))
    found = Registry.open(str(tmp_path)).keys
    assert found is not None
    assert list(found.keys) == list(made.ed25519().public_keys.keys)


def test_where_cryptography_is_missing_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(made.ed25519().public_keys.to_pem())
    code = """
import sys
sys.modules["cryptography"] = None
from transferlite.errors import MissingExtraError
from transferlite.registry.open_registry import Registry, utc_now
from transferlite.predict.predictor import Predictor
print(Registry.open("models").keys)
try:
    Registry.open("models", sys.argv[1])
except MissingExtraError as error:
    print(error)
"""
    root = Path(__file__).parents[3]
    words = [sys.executable, "-c", code, str(tmp_path / "key.pem")]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    said = ["None", "cryptography is not installed; install the extra: pip install 'transferlite[signed]'"]
    assert done.stdout.splitlines() == said, done.stderr


# -- AWS KMS ---------------------------------------------------------------------------------------------------------


def test_kms_is_sent_the_digest_alone(kms_alias: str) -> None:
    key = KmsKey.open(kms_alias)
    sent: list[Any] = []
    key.client.meta.events.register("provide-client-params.kms.Sign", lambda params, **_: sent.append(params))
    key.sign(b"x" * 100_000)
    (params,) = sent
    assert params["MessageType"] == "DIGEST"
    assert len(params["Message"]) == 32


def test_a_kms_key_is_named_by_alias_id_or_arn(kms_alias: str) -> None:
    arn = boto3.client("kms").describe_key(KeyId="alias/models")["KeyMetadata"]["Arn"]
    (expected,) = KmsKey.open(kms_alias).public_keys.keys
    for name in (arn, f"awskms:///{arn.rpartition('/')[2]}", f"awskms:///{arn}"):
        opened = open_signer(name)
        assert opened is not None
        assert list(opened.public_keys.keys) == [expected]
    assert list(public_keys_of(kms_alias).keys) == [expected]


def test_kms_is_asked_once_for_the_public_key_that_a_function_checks_with(
    kms_alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kms_public_keys.cache_clear()
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", kms_alias)
    signature = KmsKey.open(kms_alias).sign(b"x")
    first = configured_public_keys()
    assert first is not None
    first.check(b"x", signature, "")
    boto3.client("kms").delete_alias(AliasName="alias/models")
    assert configured_public_keys() is first
    _kms_public_keys.cache_clear()


def test_a_kms_key_that_is_not_there_or_cannot_sign_so_is_an_input_error(kms_alias: str) -> None:
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
        ("Odd", Exception, "AWS KMS answered Odd"),
    ],
)
def test_what_kms_refuses_is_explained(kms_alias: str, code: str, kind: type[Exception], message: str) -> None:
    key = KmsKey.open(kms_alias)
    error = {"Error": {"Code": code, "Message": "for a test"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    answer = type("Answer", (), {"status_code": 400})()
    key.client.meta.events.register("before-call.kms.Sign", lambda **_: (answer, error))
    with pytest.raises(kind, match=message):
        key.sign(b"x")


# -- registries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A signed registry of the versions one and two; production names two."""
    store = MemoryStore()
    for model_id in ("one", "two"):
        owners(store).publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        owners(store).promote(model_id, "production")
    return store


def test_what_its_owner_published_and_promoted_is_trusted(tmp_path: Path, signer: Signer) -> None:
    registry = Registry(MemoryStore(), signer.public_keys, signer)
    manifest = write_bundle(tmp_path / "one", "one")
    registry.publish(tmp_path / "one", manifest)
    registry.promote("one", "production")
    assert registry.manifest(registry.resolve("production")) == manifest
    assert [one.model_id for one in registry.versions()] == ["one"]


def test_the_signature_is_written_before_the_manifest(tmp_path: Path) -> None:
    written = []

    class Noting(MemoryStore):
        def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            written.append(key.rpartition("/")[2])
            return super().put(key, data, if_absent=if_absent, if_match=if_match)

    owners(Noting()).publish(tmp_path, write_bundle(tmp_path, "one"))
    assert written[-2:] == [SIGNATURE, MANIFEST]


def test_a_signed_registry_is_read_without_keys_as_ever(store: MemoryStore) -> None:
    assert Registry(store).channel("production").model_id == "two"
    assert Registry(store).manifest("one").model_id == "one"


def test_a_signature_that_may_not_be_read_is_asked_for_only_by_those_who_have_a_key(
    bucket: object, tmp_path: Path
) -> None:
    store = S3Store(BUCKET)
    owners(store).publish(tmp_path / "one", write_bundle(tmp_path / "one", "one"))
    refuse("GetObject", "AccessDenied", 403, "manifest.sig")
    assert Registry(store).pull("one", tmp_path / "device").name == "one"
    with pytest.raises(AccessDeniedError):
        trusting(store).manifest("one")


def test_an_unsigned_registry_is_refused_by_those_who_have_a_key(tmp_path: Path) -> None:
    store = MemoryStore()
    Registry(store).publish(tmp_path, write_bundle(tmp_path, "one"))
    Registry(store).promote("one", "production")
    for ask in (lambda: trusting(store).channel("production"), lambda: trusting(store).manifest("one")):
        with pytest.raises(UntrustedError, match="is not signed, and a public key is configured"):
            ask()


def test_a_signed_channel_is_not_changed_without_the_key(store: MemoryStore) -> None:
    before = store.get("channels/production.json")
    registry = Registry(store)
    changes: tuple[Callable[[], object], ...] = (
        lambda: registry.promote("one", "production"),
        lambda: registry.rollback("production"),
        lambda: registry.loses_history("production"),
    )
    for change in changes:
        with pytest.raises(InputError, match=r"channel production: is signed.*--signing-key"):
            change()
    assert store.get("channels/production.json") == before


def test_each_promotion_and_rollback_has_a_higher_sequence(store: MemoryStore) -> None:
    registry = owners(store)
    pointers = [registry.channel("production")]
    pointers.append(registry.rollback("production"))
    pointers.append(registry.promote("two", "production"))
    pointers.append(registry.promote("one", "production"))
    sequences = [pointer.sequence for pointer in pointers]
    assert sequences == sorted(set(sequences))
    assert [pointer.model_id for pointer in pointers] == ["two", "one", "two", "one"]
    for pointer in pointers:
        trusting(store).keys.check(pointer.signed_part(), pointer.signature, "")  # type: ignore[union-attr]


def test_the_sequence_goes_up_though_the_channel_was_deleted(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = owners(store).channel("production").sequence
    store.delete("channels/production.json")
    later = utc_now() + datetime.timedelta(minutes=1)
    monkeypatch.setattr("transferlite.registry.versions.utc_now", lambda: later)
    assert owners(store).promote("one", "production").sequence > first


def test_the_pointer_of_one_channel_does_not_stand_for_another(store: MemoryStore) -> None:
    owners(store).promote("one", "staging")
    store.put("channels/production.json", store.get("channels/staging.json").data)
    with pytest.raises(UntrustedError, match="is the pointer of another channel, 'staging'"):
        trusting(store).channel("production")


def test_an_unsigned_version_is_not_promoted_in_a_signed_channel_until_it_is_signed(
    store: MemoryStore, tmp_path: Path
) -> None:
    Registry(store).publish(tmp_path / "old", write_bundle(tmp_path / "old", "old"))
    with pytest.raises(UntrustedError, match=r"is not signed.*transferlite models sign"):
        owners(store).promote("old", "production")
    owners(store).sign("old")
    assert owners(store).promote("old", "production").model_id == "old"
    assert trusting(store).manifest("old").model_id == "old"


def test_the_first_signed_promotion_begins_the_channel_anew(tmp_path: Path) -> None:
    store = MemoryStore()
    for model_id in ("one", "two"):
        Registry(store).publish(tmp_path / model_id, write_bundle(tmp_path / model_id, model_id))
        Registry(store).promote(model_id, "production")
    registry = owners(store)
    assert registry.loses_history("production")
    with pytest.raises(UntrustedError, match="promote the version that you want"):
        registry.rollback("production")
    registry.sign("two")
    pointer = registry.promote("two", "production")
    assert pointer.previous == ()
    assert trusting(store).channel("production") == pointer
    assert not registry.loses_history("production")


def test_a_forged_history_is_not_signed_by_the_owner(store: MemoryStore) -> None:
    pointer = owners(store).channel("production")
    store.put("channels/production.json", replace(pointer, previous=("one", "evil")).to_json())
    with pytest.raises(UntrustedError):
        owners(store).rollback("production")
    assert owners(store).promote("two", "production").previous == ()


def test_a_new_key_takes_over_from_the_old_one(store: MemoryStore) -> None:
    old, new = made.ed25519(), made.p256("new")
    changing = Registry(store, old.public_keys, new)
    changing.sign("two")
    pointer = changing.promote("one", "production")
    assert pointer.previous == ("two", "one")
    assert trusting(store, old, new).channel("production") == pointer
    with pytest.raises(UntrustedError, match="another key"):
        trusting(store, old).channel("production")
    with pytest.raises(UntrustedError, match="another key"):
        trusting(store, new).manifest("one")
    changing.sign("one")
    assert trusting(store, new).manifest("one").model_id == "one"


def test_a_manifest_under_another_version_s_name_is_refused(store: MemoryStore) -> None:
    for name in (MANIFEST, SIGNATURE):
        store.put(f"models/two/{name}", store.get(f"models/one/{name}").data)
    for registry in (trusting(store), Registry(store)):
        with pytest.raises(BundleError, match=r"models/two/manifest\.json: is the manifest of another version, one"):
            registry.manifest("two")


def test_a_pointer_from_before_there_were_signatures_is_read() -> None:
    read = Pointer.from_json(b'{"model_id": "one", "previous": ["zero"], "updated_at": "2026-01-01T00:00:00+00:00"}')
    assert read == Pointer("one", ("zero",), "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize("change", [{"sequence": "7"}, {"sequence": True}, {"channel": 7}, {"signature": 7}])
def test_an_odd_pointer_is_damaged(change: dict[str, object]) -> None:
    data = json.dumps({"model_id": "one", "previous": [], "updated_at": "", **change}).encode()
    with pytest.raises(BundleError):
        Pointer.from_json(data)
