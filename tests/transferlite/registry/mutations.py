"""Damage, exchange and forge the objects of a signed registry; each mutation comes with the expected error.

A registry is a dict of objects by key. The channel points to ``next``. The device runs the previous version ``good``;
``old`` is the version before that.
"""

import base64
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.conftest import Trained
from tests.transferlite.keys import ed25519, forged, owners, signature_of
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import GOLDEN, LABELS, MANIFEST, SIGNATURE, FileInfo, Manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore
from transferlite.trust.keys import LocalKey

MODEL = "int8.tflite"
CHANNEL = "channels/production.json"
FILES = (MODEL, LABELS, GOLDEN)

Objects = dict[str, bytes]
Chance = random.Random

SHA256 = r"does not have the manifest's sha256"
MISMATCH = r"does not match its signature by [0-9a-f]{16}: one of them was altered"
OTHER_KEY = r"is signed with another key \([0-9a-f]{16}; accepted: [0-9a-f]{16}\)"
UNSIGNED = r"is not signed, and a public key is configured"
NO_SIGNATURE = r"the signature cannot be read|does not sign a model's files"
NO_POINTER = r"the pointer (is empty|cannot be read)|the signed envelope cannot be read|the pointer's"


@dataclass(frozen=True)
class MutatedRegistry:
    """A mutated registry and the error that a device has to report."""

    kind: str
    objects: Objects
    reason: str


def published(trained: Trained) -> Objects:
    """Publish and promote the trained model as three versions whose files all differ."""
    from transferlite.registry.local_bundle import read_manifest

    store = MemoryStore()
    registry = owners(store)
    manifest = read_manifest(trained.bundle)
    for number, model_id in enumerate(("old", "good", "next")):
        files = {name: (trained.bundle / name).read_bytes() + b"\n" * (number + 1) for name in FILES}
        publish(registry, manifest, model_id, files, f"2026-01-0{number + 1}T00:00:00+00:00")
        registry.promote(model_id, "production")
        if model_id == "next":
            registry.promote(model_id, "staging")
        store.put(f"replays/{model_id}", store.get(CHANNEL).data)
    return {entry.key: store.get(entry.key).data for entry in store.entries()}


def publish(registry: Registry, template: Manifest, model_id: str, files: Objects, created_at: str) -> None:
    """Publish a version with these files as the registry's owner."""
    described = {name: FileInfo(_sha256(data), len(data)) for name, data in files.items()}
    variants = {"int8": template.variants["int8"]}
    manifest = replace(template, model_id=model_id, created_at=created_at, files=described, variants=variants)
    for name, data in files.items():
        registry.store.put(f"models/{model_id}/{name}", data)
    assert registry.signer is not None
    registry.store.put(f"models/{model_id}/{SIGNATURE}", signature_of(manifest.to_json(), registry.signer))
    registry.store.put(f"models/{model_id}/{MANIFEST}", manifest.to_json())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- damage ----------------------------------------------------------------------------------------------------------


def _flipped(data: bytes, chance: Chance) -> bytes:
    position, changed = chance.randrange(len(data)), bytearray(data)
    changed[position] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncated(data: bytes, chance: Chance) -> bytes:
    return data[: chance.choice((0, 1, chance.randrange(len(data)), len(data) - 1))]


Damage = Callable[[bytes, Chance], bytes]


def _damage_file(objects: Objects, chance: Chance, damage: Damage) -> tuple[Objects, str]:
    key = f"models/next/{chance.choice(FILES)}"
    return {**objects, key: damage(objects[key], chance)}, SHA256


def flipped_file(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    return _damage_file(objects, chance, _flipped)


def truncated_file(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    return _damage_file(objects, chance, _truncated)


def longer_file(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    return _damage_file(objects, chance, lambda data, chance: data + chance.randbytes(chance.choice((1, 9, 10**6))))


def flipped_manifest(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    key = f"models/next/{MANIFEST}"
    return {**objects, key: _flipped(objects[key], chance)}, MISMATCH


def truncated_manifest(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    key = f"models/next/{MANIFEST}"
    return {**objects, key: _truncated(objects[key], chance)}, MISMATCH


def damaged_signature(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Damage the signed statement or the signature inside, or truncate the file."""
    key = f"models/next/{SIGNATURE}"
    raw = json.loads(objects[key])
    envelope, (signature,) = raw["dsseEnvelope"], raw["dsseEnvelope"]["signatures"]
    match chance.randrange(3):
        case 0:
            envelope["payload"] = _damaged_base64(envelope["payload"], chance)
        case 1:
            signature["sig"] = _damaged_base64(signature["sig"], chance)
        case _:
            return {**objects, key: _truncated(objects[key].rstrip(), chance)}, NO_SIGNATURE
    return {**objects, key: json.dumps(raw).encode()}, MISMATCH


def _damaged_base64(text: str, chance: Chance) -> str:
    return base64.b64encode(_flipped(base64.b64decode(text), chance)).decode()


def damaged_pointer(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Flip a bit of the signed payload, or truncate the file."""
    if chance.random() < 0.5:
        return {**objects, CHANNEL: _truncated(objects[CHANNEL].rstrip(), chance)}, NO_POINTER
    raw = json.loads(objects[CHANNEL])
    raw["payload"] = _damaged_base64(raw["payload"], chance)
    return {**objects, CHANNEL: json.dumps(raw).encode()}, f"{NO_POINTER}|{MISMATCH}|pointer schema"


# -- exchange --------------------------------------------------------------------------------------------------------


def swapped_files(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    first, second = (f"models/next/{name}" for name in chance.sample(FILES, 2))
    return {**objects, first: objects[second], second: objects[first]}, SHA256


def files_of_another_version(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    name, other = chance.choice(FILES), chance.choice(("old", "good"))
    return {**objects, f"models/next/{name}": objects[f"models/{other}/{name}"]}, SHA256


def manifest_of_another_version(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    other = chance.choice(("old", "good"))
    names = chance.choice(((MANIFEST, SIGNATURE), (MANIFEST,), (SIGNATURE,)))
    exchanged = {f"models/next/{name}": objects[f"models/{other}/{name}"] for name in names}
    return {**objects, **exchanged}, f"is the manifest of another version, {other}" if len(names) == 2 else MISMATCH


def missing_object(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    name = chance.choice((*FILES, MANIFEST, SIGNATURE))
    reasons = {MANIFEST: "there is no model next", SIGNATURE: UNSIGNED}
    remaining = {key: data for key, data in objects.items() if key != f"models/next/{name}"}
    return remaining, reasons.get(name, rf"models/next/{name}: does not exist")


# -- forgery ---------------------------------------------------------------------------------------------------------

EDITS: tuple[Callable[[Any], object], ...] = (
    lambda raw: raw["labels"].reverse(),
    lambda raw: raw["labels"].__setitem__(0, "harmless"),
    lambda raw: raw.update(threshold=0.99),
    lambda raw: raw.update(created_at="2030-01-01T00:00:00+00:00"),
    lambda raw: raw.update(golden=""),
    lambda raw: raw["files"][MODEL].update(sha256="0" * 64),
    lambda raw: raw["files"].update({"../../evil": {"sha256": "0" * 64, "size": 1}}),
    lambda raw: raw["input"].update(height=32),
)


def edited_manifest(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Edit the manifest and, in half of the cases, sign it with the forger's key."""
    key = f"models/next/{MANIFEST}"
    raw = json.loads(objects[key])
    chance.choice(EDITS)(raw)
    data = json.dumps(raw).encode()
    if chance.random() < 0.5:
        return {**objects, key: data}, MISMATCH
    return {**objects, key: data, f"models/next/{SIGNATURE}": signature_of(data, _forger())}, OTHER_KEY


def other_key(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Sign the original manifest or pointer with the forger's key, which may claim the owner's key id."""
    claimed = chance.random() < 0.5
    reason = MISMATCH if claimed else OTHER_KEY
    if chance.random() < 0.5:
        signature = signature_of(objects[f"models/next/{MANIFEST}"], _forger())
        return {**objects, f"models/next/{SIGNATURE}": _claimed(signature) if claimed else signature}, reason
    pointer = replace(Pointer.from_json(objects[CHANNEL])).signed(_forger()).to_json()
    return {**objects, CHANNEL: _claimed(pointer) if claimed else pointer}, reason


def _claimed(document: bytes) -> bytes:
    """Replace the forger's key id by the owner's."""
    (ours,), (owners_id,) = _forger().public_keys.keys, ed25519().public_keys.keys
    return document.replace(ours.encode(), owners_id.encode())


def edited_pointer(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Edit the pointer and keep its old signature, or remove the signature."""
    pointer = Pointer.from_json(objects[CHANNEL])
    edits: tuple[dict[str, Any], ...] = (
        {"model_id": "old"},
        {"sequence": pointer.sequence + 9},
        {"previous": ("old",)},
        {"withdrawn": ("good",)},
        {"expires_at": "2999-01-01T00:00:00+00:00"},
    )
    edit = chance.choice(edits)
    if chance.random() < 0.5:
        return {**objects, CHANNEL: replace(pointer, **edit).to_json()}, UNSIGNED
    return {**objects, CHANNEL: forged(pointer, **edit)}, MISMATCH


def replayed_pointer(objects: Objects, _: Chance) -> tuple[Objects, str]:
    """Replay the channel's pointer to the oldest version."""
    return {**objects, CHANNEL: objects["replays/old"]}, r"is older \(.*\) than the accepted pointer"


def pointer_of_another_channel(objects: Objects, _: Chance) -> tuple[Objects, str]:
    return {**objects, CHANNEL: objects["channels/staging.json"]}, "is the pointer of another channel, 'staging'"


def wrong_predictions(objects: Objects, chance: Chance) -> tuple[Objects, str]:
    """Signed by the owner, and yet not what it says it is: the self-test fails."""
    store = MemoryStore()
    for key, data in objects.items():
        store.put(key, data)
    files = {name: objects[f"models/next/{name}"] for name in FILES}
    golden = json.loads(files[GOLDEN])
    golden["expected"]["int8"] = [row[::-1] for row in golden["expected"]["int8"]]
    files[GOLDEN] = json.dumps(golden).encode() + b" " * chance.randrange(9)
    template = Manifest.from_json(objects[f"models/next/{MANIFEST}"])
    publish(owners(store), template, "next", files, template.created_at)
    return {entry.key: store.get(entry.key).data for entry in store.entries()}, "self-test failed: probability differs"


KINDS = (
    flipped_file, truncated_file, longer_file, flipped_manifest, truncated_manifest, damaged_signature, damaged_pointer,
    swapped_files, files_of_another_version, manifest_of_another_version, missing_object, edited_manifest, other_key,
    edited_pointer, replayed_pointer, pointer_of_another_channel, wrong_predictions,
)  # fmt: skip


def mutated(objects: Objects, number: int) -> MutatedRegistry:
    """Mutate the registry; ``number`` selects the kind in turn and seeds the random choices."""
    kind = KINDS[number % len(KINDS)]
    changed, reason = kind(objects, random.Random(number))
    return MutatedRegistry(kind.__name__, changed, reason)


def _forger() -> LocalKey:
    return ed25519("forger")


def store_of(objects: Objects) -> MemoryStore:
    """Make a store with these objects."""
    store = MemoryStore()
    for key, data in objects.items():
        store.put(key, data)
    return store
