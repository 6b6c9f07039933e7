"""The bill of materials of a version."""

import importlib.metadata
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.conftest import Trained
from tests.transferlite.bundles import manifest_of
from train_job.reporting.bill_of_materials import SBOM, bill_of_materials
from transferlite.registry.local_bundle import read_manifest

OWN_WEIGHTS = {
    "name": "resnet50",
    "weights_source": "s3://bucket/own.h5",
    "weights_licence": "NOASSERTION",
    "weights_sha256": "ab" * 32,
}


def test_a_published_version_lists_its_weights_and_packages(trained: Trained) -> None:
    text = (trained.bundle / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    manifest = read_manifest(trained.bundle)
    assert bom["metadata"]["component"]["name"] == manifest.model_id
    components = {component["bom-ref"]: component for component in bom["components"]}
    weights = components["weights"]
    assert weights["purl"] == manifest.backbone["weights_source"]
    assert weights["licenses"] == [{"expression": "Apache-2.0"}]
    assert weights["hashes"] == [{"alg": "SHA-256", "content": manifest.backbone["weights_sha256"]}]
    for package in ("keras", "numpy", "pillow"):
        assert f"pkg:pypi/{package}@{importlib.metadata.version(package)}" in components
    assert SBOM in manifest.files


@pytest.mark.parametrize("licence", ["NOASSERTION", "NONE"])
def test_weights_of_unknown_origin_have_no_package_and_no_licence(licence: str) -> None:
    manifest = manifest_of("one", backbone=OWN_WEIGHTS | {"weights_licence": licence})
    text = bill_of_materials(manifest)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (weights,) = [item for item in json.loads(text)["components"] if item["bom-ref"] == "weights"]
    assert "licenses" not in weights
    assert "purl" not in weights
    assert weights["description"].startswith("from s3://bucket/own.h5")


def test_a_version_has_one_bill_of_materials() -> None:
    manifest = manifest_of("one", backbone=OWN_WEIGHTS)
    assert bill_of_materials(manifest) == bill_of_materials(manifest)
