"""Signed bundles and the OpenSSF tool ``model_signing``: each verifies what the other signed, and refuses mutations."""

import base64
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.hazmat.primitives import serialization

from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, owners, p256, signature_of
from transferlite.errors import BundleError, NotFoundError, UntrustedError
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.trust.keys import LocalKey, Signer
from transferlite.trust.model_signature import signed_files

MUTATIONS = 200
PLAIN_PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
Files = dict[str, bytes]
Chance = random.Random


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Write the owner's key pair as PEM files."""
    (tmp_path / "key.pem").write_bytes(p256().key.private_bytes(*PLAIN_PEM))
    (tmp_path / "key.pub.pem").write_text(p256().public_keys.to_pem())
    return tmp_path


@pytest.fixture(params=["ours", "theirs"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, keys: Path) -> Path:
    """Return a bundle signed by this library, or by ``model_signing sign key``."""
    folder = tmp_path / "one"
    manifest = write_bundle(folder, "one")
    if request.param == "ours":
        (folder / SIGNATURE).write_bytes(signature_of(manifest.to_json(), p256()))
    else:
        command = ["sign", "key", str(folder), "--private_key", str(keys / "key.pem")]
        assert run_model_signing(*command, "--signature", str(folder / SIGNATURE)) == 0
    return folder


def run_model_signing(*arguments: str) -> int:
    command = [sys.executable, "-m", "model_signing", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode


def ours_accepts(bundle: Path) -> bool:
    """Whether the signature, the manifest and every file of the bundle pass this library's checks."""
    try:
        check_files(bundle, read_manifest(bundle, p256().public_keys).files)
    except (BundleError, NotFoundError):
        return False
    return True


def theirs_accepts(bundle: Path, keys: Path) -> bool:
    """Whether ``model_signing verify key`` accepts the bundle; it raises errors of many types."""
    verifying = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys / "key.pub.pem")
    try:
        verifying.verify(bundle, bundle / SIGNATURE)
    except Exception:
        return False
    return True


def test_the_command_line_of_model_signing_verifies_a_bundle(bundle: Path, keys: Path) -> None:
    command = ["verify", "key", str(bundle), "--signature", str(bundle / SIGNATURE)]
    assert run_model_signing(*command, "--public_key", str(keys / "key.pub.pem")) == 0
    (bundle / "int8.tflite").write_bytes(b"another model")
    assert run_model_signing(*command, "--public_key", str(keys / "key.pub.pem")) != 0


def test_a_signed_bundle_is_pulled_into_a_folder(bundle: Path, tmp_path: Path) -> None:
    bundle.rename(tmp_path / "models_one")
    (tmp_path / "registry" / "models").mkdir(parents=True)
    (tmp_path / "models_one").rename(tmp_path / "registry" / "models" / "one")
    registry = Registry(FolderStore(tmp_path / "registry"), p256().public_keys)
    pulled = registry.pull("one", tmp_path / "device")
    assert read_manifest(pulled, p256().public_keys).model_id == "one"
    stranger = Registry(registry.store, ed25519().public_keys)
    with pytest.raises(UntrustedError, match="is signed with another key"):
        stranger.pull("one", tmp_path / "other")


def test_a_published_version_is_a_folder_that_model_signing_verifies(tmp_path: Path, keys: Path) -> None:
    registry = owners(FolderStore(tmp_path / "registry"), p256())
    registry.publish(tmp_path / "bundle", write_bundle(tmp_path / "bundle", "one"))
    assert theirs_accepts(tmp_path / "registry" / "models" / "one", keys)


def test_a_signature_that_leaves_the_manifest_out_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, "one")
    config = model_signing.hashing.Config().set_ignored_paths(paths=[MANIFEST, SIGNATURE])
    key = tmp_path.parent / "left-out.pem"
    key.write_bytes(p256().key.private_bytes(*PLAIN_PEM))
    signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    signing.set_hashing_config(config).sign(tmp_path, tmp_path / SIGNATURE)
    with pytest.raises(UntrustedError, match=r"manifest\.json: does not match its signature"):
        read_manifest(tmp_path, p256().public_keys)


def test_every_kind_of_key_signs_a_version(tmp_path: Path, signer: Signer) -> None:
    registry = Registry(FolderStore(tmp_path / "registry"), signer.public_keys, signer)
    manifest = write_bundle(tmp_path / "bundle", "one")
    registry.publish(tmp_path / "bundle", manifest)
    content = registry.signature("one")
    assert content is not None
    signed = signed_files(content, signer.public_keys, "here")
    assert {name: info.sha256 for name, info in manifest.files.items()}.items() <= signed.items()
    assert set(signed) == {*manifest.files, MANIFEST}


# -- mutations -------------------------------------------------------------------------------------------------------


def _flip(data: bytes, chance: Chance) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _any_file(files: Files, chance: Chance) -> str:
    return chance.choice(sorted(set(files) - {SIGNATURE}))


def flip_a_bit(files: Files, chance: Chance) -> None:
    name = _any_file(files, chance)
    files[name] = _flip(files[name], chance)


def truncate_a_file(files: Files, chance: Chance) -> None:
    name = _any_file(files, chance)
    files[name] = files[name][: chance.randrange(len(files[name]))]


def lengthen_a_file(files: Files, chance: Chance) -> None:
    files[_any_file(files, chance)] += chance.randbytes(chance.choice((1, 100)))


def delete_a_file(files: Files, chance: Chance) -> None:
    del files[chance.choice(sorted(files))]


def rename_a_file(files: Files, chance: Chance) -> None:
    name = _any_file(files, chance)
    files[f"{name}.old"] = files.pop(name)


def swap_two_files(files: Files, chance: Chance) -> None:
    first, second = chance.sample(sorted(set(files) - {SIGNATURE}), 2)
    files[first], files[second] = files[second], files[first]


def edit_the_manifest(files: Files, chance: Chance) -> None:
    raw = json.loads(files[MANIFEST])
    raw |= chance.choice(({"labels": ["red", "blue"]}, {"threshold": 0.9}, {"added": 1}, {"created_at": "2030"}))
    files[MANIFEST] = json.dumps(raw).encode()


def exchange_a_model_and_its_digests(files: Files, chance: Chance) -> None:
    """Replace a model, and its digest in the manifest and in the statement, but not the signature."""
    model = chance.choice(("int8.tflite", "float32.tflite"))
    files[model] = chance.randbytes(50)
    files[SIGNATURE] = _resigned(files, model, p256("forger"), files[SIGNATURE])


def sign_with_another_key(files: Files, chance: Chance) -> None:
    files[SIGNATURE] = _resigned(files, "int8.tflite", p256("forger"), None)


def _resigned(files: Files, model: str, key: LocalKey, original: bytes | None) -> bytes:
    """Correct the model's digest, and sign as the forger; with the ``original``'s signature and key hint if given."""
    raw = json.loads(files[MANIFEST])
    raw["files"][model] = {"sha256": hashlib.sha256(files[model]).hexdigest(), "size": len(files[model])}
    files[MANIFEST] = json.dumps(raw).encode()
    forged = json.loads(signature_of(files[MANIFEST], key))
    if original is not None:
        old = json.loads(original)
        forged["verificationMaterial"] = old["verificationMaterial"]
        forged["dsseEnvelope"]["signatures"] = old["dsseEnvelope"]["signatures"]
    return json.dumps(forged).encode()


def damage_the_statement(files: Files, chance: Chance) -> None:
    _edit_envelope(files, lambda raw: raw.update(payload=_flipped_base64(raw["payload"], chance)))


def damage_the_signature(files: Files, chance: Chance) -> None:
    def edit(raw: Any) -> None:
        (signature,) = raw["signatures"]
        signature["sig"] = _flipped_base64(signature["sig"], chance)

    _edit_envelope(files, edit)


def change_the_type(files: Files, chance: Chance) -> None:
    _edit_envelope(files, lambda raw: raw.update(payloadType="application/vnd.transferlite.pointer+json"))


def remove_the_signatures(files: Files, chance: Chance) -> None:
    _edit_envelope(files, lambda raw: raw.update(signatures=[]))


def _edit_envelope(files: Files, edit: Callable[[Any], object]) -> None:
    raw = json.loads(files[SIGNATURE])
    edit(raw["dsseEnvelope"])
    files[SIGNATURE] = json.dumps(raw).encode()


def _flipped_base64(text: str, chance: Chance) -> str:
    return base64.b64encode(_flip(base64.b64decode(text), chance)).decode()


KINDS = (
    flip_a_bit, truncate_a_file, lengthen_a_file, delete_a_file, rename_a_file, swap_two_files, edit_the_manifest,
    exchange_a_model_and_its_digests, sign_with_another_key, damage_the_statement, damage_the_signature,
    change_the_type, remove_the_signatures,
)  # fmt: skip


def test_both_verifiers_refuse_200_mutated_bundles(bundle: Path, keys: Path, tmp_path: Path) -> None:
    assert ours_accepts(bundle)
    assert theirs_accepts(bundle, keys)
    original = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    refused = []
    for number in range(MUTATIONS):
        kind, files = KINDS[number % len(KINDS)], dict(original)
        kind(files, random.Random(number))
        folder = tmp_path / "mutated" / str(number)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        verdicts = ours_accepts(folder), theirs_accepts(folder, keys)
        assert verdicts == (False, False), f"{number}, {kind.__name__}"
        refused.append(number)
    assert len(refused) == MUTATIONS
