"""Small bundles for tests that store and copy them; their models cannot run."""

from pathlib import Path
from typing import Any

from transferlite.images.input_spec import InputSpec
from transferlite.registry.local_bundle import describe_files
from transferlite.registry.manifest import MANIFEST, FileInfo, Manifest, Variant

FILES = {
    "float32.tflite": b"a float32 model of ",
    "int8.tflite": b"an int8 model of ",
    "labels.txt": b"blue\nred\n",
    "saved_model/1/saved_model.pb": b"a SavedModel of ",
    "training/history.csv": b"epoch,loss\n",
}


def manifest_of(model_id: str, **changes: Any) -> Manifest:
    """Make the manifest of a model with two classes."""
    variants = {
        "saved_model": Variant("saved_model", 9, "tensorflow", 2, 1.0, 1.0, 0.0),
        "float32": Variant("float32.tflite", 9, "ai-edge-litert", 2, 1.0, 1.0, 0.0),
        "int8": Variant("int8.tflite", 9, "ai-edge-litert", 2, 1.0, 1.0, 0.004),
    }
    fields: dict[str, Any] = {
        "model_id": model_id,
        "created_at": "2026-01-31T23:59:59+00:00",
        "labels": ("blue", "red"),
        "input": InputSpec(64, 48),
        "backbone": {"name": "efficientnet_lite0"},
        "training": {"epochs": 10},
        "dataset": {"photos": {"train": 20}},
        "metrics": {"test": {"accuracy": 0.5, "log_loss": 0.1, "photos": 2}},
        "variants": variants,
        "left_out": {"dynamic": "agreement 0.50 is below 0.95"},
        "software": {"python": "3.11"},
        "files": {name: FileInfo("0" * 64, 9) for name in FILES},
    }
    return Manifest(**fields | changes)


def write_bundle(folder: Path, model_id: str) -> Manifest:
    """Write a complete bundle to ``folder``; model files of different ids have different content."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if name.endswith((".txt", ".csv")) else content + model_id.encode())
    manifest = manifest_of(model_id, files=describe_files(folder))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest
