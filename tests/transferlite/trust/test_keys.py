"""Signatures, and the keys that make and check them."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.transferlite import keys
from tests.transferlite.bundles import write_bundle
from transferlite.errors import BundleError, InputError, UntrustedError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry
from transferlite.trust.envelope import Envelope, Signature, signed_bytes
from transferlite.trust.keys import LocalKey, Signer, create_key, seal
from transferlite.trust.open_keys import (
    configured_public_keys,
    open_signer,
    public_keys_of,
    read_public_keys,
)


def pem(key: Any, secret: bytes | None = None) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    encryption = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    return bytes(key.private_bytes(*form, encryption))


def sealed(signer: Signer, payload: bytes = b"x") -> Envelope:
    return seal("text/plain", payload, signer)


def test_a_signature_matches_only_the_signed_bytes_and_their_type(signer: Signer) -> None:
    envelope = sealed(signer, b"a manifest of any length " * 1000)
    signer.public_keys.check(envelope, "here")
    for change in ({"payload": b"another manifest"}, {"payload_type": "text/html"}):
        with pytest.raises(UntrustedError, match=r"here: does not match its signature by [0-9a-f]{16}"):
            signer.public_keys.check(replace(envelope, **change), "here")


def test_an_envelope_round_trips_through_json(signer: Signer) -> None:
    envelope = sealed(signer)
    assert Envelope.from_dict(json.loads(envelope.to_json())) == envelope


def test_an_unsigned_envelope_is_refused(signer: Signer) -> None:
    with pytest.raises(UntrustedError, match="here: is not signed"):
        signer.public_keys.check(Envelope("text/plain", b"x"), "here")


def test_a_signature_of_another_key_is_refused_with_both_ids(signer: Signer) -> None:
    stranger = keys.ed25519("stranger")
    with pytest.raises(
        UntrustedError, match=rf"is signed with another key \({stranger.public_keys}; accepted: {signer.public_keys}\)"
    ):
        signer.public_keys.check(sealed(stranger), "here")


@pytest.mark.parametrize("claimed", [True, False])
def test_a_key_that_claims_another_s_id_or_none_is_refused(signer: Signer, claimed: bool) -> None:
    (ours,) = signer.public_keys.keys
    (theirs,) = sealed(keys.ed25519("stranger")).signatures
    forged = replace(sealed(signer), signatures=(Signature(ours if claimed else "", theirs.value),))
    with pytest.raises(UntrustedError, match="does not match its signature"):
        signer.public_keys.check(forged, "here")


@pytest.mark.parametrize("value", [b"", b"!", b"A", bytes(64), b"A" * 10000])
def test_an_invalid_signature_value_is_refused(signer: Signer, value: bytes) -> None:
    (ours,) = signer.public_keys.keys
    with pytest.raises(UntrustedError, match="does not match its signature"):
        signer.public_keys.check(replace(sealed(signer), signatures=(Signature(ours, value),)), "here")


def test_one_accepted_signature_among_several_is_enough(signer: Signer) -> None:
    both = (*sealed(keys.ed25519("stranger")).signatures, *sealed(signer).signatures)
    signer.public_keys.check(replace(sealed(signer), signatures=both), "here")


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {"payload": "eA==", "payloadType": "text/plain"},
        {"payload": "eA", "payloadType": "text/plain", "signatures": []},
        {"payload": "eA==", "payloadType": 7, "signatures": []},
        {"payload": "eA==", "payloadType": "text/plain", "signatures": [{"keyid": 7, "sig": ""}]},
        {"payload": "eA==", "payloadType": "text/plain", "signatures": [{"keyid": ""}]},
        {"payload": "eA==", "payloadType": "text/plain", "signatures": [{"keyid": "", "sig": ""}] * 11},
    ],
)
def test_a_damaged_envelope_is_refused(raw: Any) -> None:
    with pytest.raises(BundleError, match="the signed envelope cannot be read"):
        Envelope.from_dict(raw)


def test_the_key_id_is_the_hint_of_openssf_model_signing() -> None:
    public = keys.p256().public_keys
    assert list(public.keys) == [hashlib.sha256(public.to_pem().encode()).hexdigest()]


def test_any_accepted_key_may_sign() -> None:
    both = keys.ed25519("new").public_keys | keys.p256("old").public_keys
    for key in (keys.ed25519("new"), keys.p256("old")):
        both.check(sealed(key), "here")


def test_openssl_verifies_a_signature(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    key = keys.ed25519()
    envelope = sealed(key, b"content")
    signed = signed_bytes(envelope.payload_type, envelope.payload)
    for name, content in {"manifest": signed, "raw": envelope.signatures[0].value}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "key.pem").write_text(key.public_keys.to_pem())
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in"]
    done = subprocess.run([*command, "manifest", "-sigfile", "raw"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "manifest").write_bytes(b"contend")
    done = subprocess.run([*command, "manifest", "-sigfile", "raw"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0


def test_a_new_key_signs_and_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    created = create_key(tmp_path / "k.pem", tmp_path / "k.pub.pem")
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    signer = open_signer(str(tmp_path / "k.pem"))
    assert signer is not None
    read_public_keys(str(tmp_path / "k.pub.pem")).check(sealed(signer), "")
    assert list(created.keys) == list(public_keys_of(str(tmp_path / "k.pem")).keys)
    assert list(created.keys) == list(public_keys_of(str(tmp_path / "k.pub.pem")).keys)


@pytest.mark.parametrize("there", ["k.pem", "k.pub.pem"])
def test_no_key_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        create_key(tmp_path / "k.pem", tmp_path / "k.pub.pem")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_public_key_is_read_in_every_supported_form(tmp_path: Path) -> None:
    key, other = keys.p256().public_keys, keys.ed25519().public_keys
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
def test_an_invalid_public_key_is_an_input_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_public_keys(str(tmp_path / "key"))


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_keys_of_unsupported_types_are_refused(tmp_path: Path, key: Any) -> None:
    (tmp_path / "key").write_bytes(pem(key))
    with pytest.raises(InputError, match="only Ed25519 and ECDSA P-256 keys are supported"):
        LocalKey.read(tmp_path / "key")
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InputError, match="only Ed25519 and ECDSA P-256 keys are supported"):
        read_public_keys(key.public_key().public_bytes(*form).decode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no key", "holds no private key"),
        (pem(ed25519.Ed25519PrivateKey.generate(), b"secret"), "is encrypted"),
        (keys.ed25519().public_keys.to_pem().encode(), "holds no private key"),
    ],
)
def test_an_invalid_private_key_is_an_input_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_signer(str(tmp_path / "key"))
    with pytest.raises(InputError, match="cannot be read"):
        open_signer(str(tmp_path / "none"))


def test_keys_come_from_the_environment_if_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert configured_public_keys() is None
    assert open_signer(None) is None
    (tmp_path / "key.pem").write_text(keys.ed25519().public_keys.to_pem())
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", str(tmp_path / "key.pem"))
    configured = Registry.open(str(tmp_path)).keys
    assert configured is not None
    assert list(configured.keys) == list(keys.ed25519().public_keys.keys)


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_public_key_is_an_error_not_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    with pytest.raises(InputError, match="--public-key: is empty"):
        Registry.open(str(tmp_path), value)
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", value)
    for use in (lambda: Registry.open(str(tmp_path)), lambda: Predictor.load(write_bundle_in(tmp_path))):
        with pytest.raises(InputError, match="TRANSFERLITE_PUBLIC_KEY: is empty; give a PEM file, or unset it"):
            use()
    with pytest.raises(InputError, match="--signing-key: is empty"):
        open_signer(value)


def write_bundle_in(folder: Path) -> Path:
    write_bundle(folder, "one")
    return folder


def test_a_missing_cryptography_package_error_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(keys.ed25519().public_keys.to_pem())
    code = """
import sys
sys.modules["cryptography"] = None
from transferlite.errors import MissingExtraError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry
from transferlite.predict.predictor import Predictor
print(Registry.open("models").keys)
try:
    Registry.open("models", sys.argv[1])
except MissingExtraError as error:
    print(error)
"""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, str(tmp_path / "key.pem")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    expected = ["None", "cryptography is not installed; install the extra: pip install 'transferlite[signed]'"]
    assert done.stdout.splitlines() == expected, done.stderr
