"""Registries that hold the tests' trained model under chosen ids."""

from dataclasses import replace

from tests.conftest import Trained
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.open_registry import Registry


def publish(uri: str, trained: Trained, *model_ids: str, channel: str = "production") -> Registry:
    """Publish the trained float32 model under each id, and promote the last."""
    registry = Registry.open(uri)
    manifest = read_manifest(trained.bundle)
    files = manifest.serving_files(["float32"])
    variants = {"float32": manifest.variants["float32"]}
    for model_id in model_ids:
        registry.publish(trained.bundle, replace(manifest, model_id=model_id, files=files, variants=variants))
        registry.promote(model_id, channel)
    return registry
