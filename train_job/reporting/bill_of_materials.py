"""Bill of materials of a version, in CycloneDX 1.6 JSON: the backbone's weights and the installed packages."""

import datetime
import importlib.metadata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from train_job.backbones.weights_source import NO_LICENCE, UNKNOWN_LICENCE
from transferlite.registry.manifest import Manifest

SBOM = "training/sbom.cdx.json"

_NAMESPACE = uuid.UUID("6f0f7c3b-3c0e-5d5a-9a8c-1f6f1f0c7a11")
"""Makes the serial number a function of the model id, so that one version has one bill of materials."""


def bill_of_materials(manifest: Manifest) -> str:
    """Format the bill of materials of a version whose files are not listed yet."""
    created_at = datetime.datetime.fromisoformat(manifest.created_at)
    model = _component(ComponentType.MACHINE_LEARNING_MODEL, manifest.model_id, None, bom_ref=manifest.model_id)
    weights, packages = _weights(manifest.backbone), list(_packages())
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, manifest.model_id),
        metadata=BomMetaData(component=model, timestamp=created_at),
        components=[weights, *packages],
    )
    bom.register_dependency(model, [weights, *packages])
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _weights(backbone: Mapping[str, Any]) -> Component:
    source, licence = str(backbone["weights_source"]), str(backbone["weights_licence"])
    component = _component(
        ComponentType.MACHINE_LEARNING_MODEL,
        f"{backbone['name']} weights",
        _licence(["" if licence in {NO_LICENCE, UNKNOWN_LICENCE} else licence]),
        bom_ref="weights",
        purl=PackageURL.from_string(source) if source.startswith("pkg:") else None,
        description=f"from {source}; the hash is over the arrays in order",
    )
    component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=str(backbone["weights_sha256"])))
    return component


def _packages() -> Iterator[Component]:
    """The installed packages, each once, by name."""
    found = {dist.metadata["Name"].lower(): dist.metadata for dist in importlib.metadata.distributions()}
    for name, metadata in sorted(found.items()):
        purl = PackageURL("pypi", name=name, version=metadata["Version"])
        licence = _licence(*(metadata.get_all(key) or [""] for key in ("License-Expression", "License")))
        yield _component(
            ComponentType.LIBRARY, name, licence, version=metadata["Version"], purl=purl, bom_ref=str(purl)
        )


def _licence(expression: Sequence[str], text: Sequence[str] = ("",)) -> License | None:
    """An SPDX expression, or the first line of a licence text as its name; None if neither is stated."""
    if expression[0]:
        return LicenseExpression(expression[0])
    first_line = text[0].strip().partition("\n")[0][:100]
    return DisjunctiveLicense(name=first_line) if first_line else None


def _component(kind: ComponentType, name: str, licence: License | None, **fields: Any) -> Component:
    return Component(type=kind, name=name, licenses=[licence] if licence else [], **fields)
