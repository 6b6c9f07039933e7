"""Published documents fit the JSON Schemas that the package ships."""

import json
from importlib.resources import files

import pytest

from tests.conftest import Trained
from tests.schemas import problems
from tests.transferlite.keys import ed25519
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore

DOCUMENTS = {
    "manifest": "manifest.json",
    "golden": "golden.json",
    "run": "training/run.json",
    "evaluation": "training/evaluation.json",
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_the_files_of_a_published_version_fit_their_schemas(trained: Trained, name: str) -> None:
    assert problems(name, (trained.bundle / DOCUMENTS[name]).read_bytes()) == []


def test_a_promoted_pointer_fits_its_schemas(trained: Trained) -> None:
    pointer = Registry(FolderStore(trained.registry)).channel("production")
    for stored in (pointer, pointer.signed(ed25519())):
        assert problems("envelope", stored.to_json()) == []
        payload = (stored.signed(ed25519()).envelope or pytest.fail("unsigned")).payload
        assert problems("pointer", payload) == []


def test_added_fields_fit_and_missing_or_wrong_ones_do_not(trained: Trained) -> None:
    for name, file in DOCUMENTS.items():
        content = json.loads((trained.bundle / file).read_bytes())
        assert problems(name, json.dumps(content | {"added": 1})) == []
        for field in json.loads((files("transferlite") / "schemas" / f"{name}.schema.json").read_text())["required"]:
            rest = {key: value for key, value in content.items() if key != field}
            assert problems(name, json.dumps(rest)) == [f"$: {field!r} is a required property"]
    assert problems("manifest", json.dumps(manifest_with(trained, model_id="../x")))
    assert problems("manifest", json.dumps(manifest_with(trained, created_at="yesterday")))
    wrong = Pointer("one", (), "yesterday").signed(ed25519()).envelope
    assert wrong is not None
    assert problems("pointer", wrong.payload)


def manifest_with(trained: Trained, **changes: object) -> dict[str, object]:
    content: dict[str, object] = json.loads((trained.bundle / "manifest.json").read_bytes())
    return content | changes
