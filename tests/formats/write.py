"""Write the documents of the current format into a new folder beside this file: ``python -m tests.formats.write 2``.

Run it for a new schema number, and again (into an empty place) for each change until the first release that writes it.
From then on the folder never changes: every later release has to read it (``tests/integration/test_formats.py``). The
private keys are thrown away.
"""

import datetime
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from transferlite.images.decoder import RGB
from transferlite.images.input_spec import InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.self_test import SelfTest
from transferlite.registry.manifest import GateResult, Manifest, Variant
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.trust.keys import LocalKey

SPEC = InputSpec(8, 8)
LABELS = ("red", "blue")
PICTURES = [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 60, 90), (40, 120, 210))]
IDS = ("20260101-000000-00000001", "20260102-000000-00000002")


def main(folder: Path) -> None:
    """Write a registry with two signed versions, a signed and an unsigned channel, and two prediction records."""
    folder.mkdir()
    owner = LocalKey(ec.generate_private_key(ec.SECP256R1()))
    other = LocalKey(Ed25519PrivateKey.generate())
    keys = owner.public_keys | other.public_keys
    (folder / "keys.pem").write_text(keys.to_pem())
    store = FolderStore(folder / "registry")
    registry = Registry(store, keys, owner)
    for model_id in IDS:
        with tempfile.TemporaryDirectory() as name:
            signed = registry if model_id == IDS[0] else Registry(store, keys, other)
            signed.publish(Path(name), write_version(Path(name), model_id))
        registry.promote(model_id, "production", datetime.timedelta(days=30))
    registry.rollback("production")
    Registry(store).promote(IDS[1], "staging")
    answers: dict[str, Any] = {
        "label": "red",
        "score": 0.98,
        "top": [{"label": "red", "score": 0.98}, {"label": "blue", "score": 0.02}],
    }
    records: dict[str, dict[str, Any]] = {
        "photo": answers | {"etag": "0" * 32, "modified": "2026-01-31T23:59:59Z"},
        "document": {"error": {"code": "not-image", "message": 'not an image (starts with "%PDF")'}, "etag": "1" * 32},
    }
    (folder / "records").mkdir()
    for record_name, record in records.items():
        content = {"image": f"s3://photos/{record_name}.jpg", "model_id": IDS[1], **record}
        (folder / "records" / f"{record_name}.jpg.json").write_text(json.dumps(content))


def write_version(folder: Path, model_id: str) -> Manifest:
    """Write a bundle whose model compares the mean of red with the mean of blue."""
    from export.tflite.write_variants import write_variant
    from train_job.pipeline.write_bundle import complete_bundle

    paths = write_variant(_converted(), ["float32", "int8"], folder)
    gate = tuple(GateResult(name, "ai-edge-litert", 2, 1.0, 0.0, 0.0, 1.0, 0.0) for name in paths)
    variants = {
        name: Variant(path.name, path.stat().st_size, "ai-edge-litert", 2, 1.0, 1.0, 0.0)
        for name, path in paths.items()
    }
    manifest = Manifest(
        model_id=model_id,
        created_at=f"{model_id[:4]}-{model_id[4:6]}-{model_id[6:8]}T00:00:00+00:00",
        labels=LABELS,
        input=SPEC,
        backbone={
            "name": "mean_colour",
            "weights": "none",
            "weights_sha256": "0" * 64,
            "weights_source": "random",
            "weights_licence": "NONE",
        },
        training={"epochs": 1},
        dataset={"sha256": "0" * 64, "photos": {"train": 1, "test": 1}},
        metrics={"test": {"photos": 2, "accuracy": 1.0, "log_loss": 0.02}},
        variants=variants,
        left_out={"dynamic": "agreement 0.50 is below 0.95"},
        software={"transferlite": "0.1.0"},
        threshold=0.5,
        calibration={"temperature": 1.0, "precision": None},
        golden="golden.json",
        gate=gate,
    )
    models = {name: TFLiteClassifier(path) for name, path in paths.items()}
    expected = {name: np.stack([model(picture) for picture in PICTURES]) for name, model in models.items()}
    (folder / manifest.golden).write_bytes(SelfTest(tuple(map(_ppm, PICTURES)), expected).to_json())
    for name in manifest.left_out:
        (folder / f"{name}.tflite").touch()  # which complete_bundle removes
    return complete_bundle(folder, manifest, {"training/dataset.csv": _DATASET, "training/run.json": _run(manifest)})


_DATASET = f"image,label,sha256,split\na.jpg,red,{'1' * 64},train\nb.jpg,blue,{'2' * 64},test\n"


def _ppm(picture: RGB) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PPM")
    return file.getvalue()


def _run(manifest: Manifest) -> str:
    fields = {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "attempt": 1,
        "seed": 0,
        "dataset_sha256": "0" * 64,
        "photos": {"train": 1, "test": 1},
        "features": {"fetched": 2, "forwarded": 2, "reused": 0},
        "seconds": {"head": 0.1},
        "peak_memory_bytes": 1000,
        "cpus": 2,
        "platform": "Linux",
        "python": "3.12.0",
        "versions": {"transferlite": "0.1.0"},
    }
    return json.dumps(fields, indent=2) + "\n"


def _converted() -> Any:
    import keras

    from tests.export.small import converted_of

    features = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255)])
    features.add(keras.layers.GlobalAveragePooling2D())
    head = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    head.set_weights([np.array([[5, -5], [0, 0], [-5, 5]], np.float32), np.zeros(2, np.float32)])
    return converted_of(features, head, PICTURES)


if __name__ == "__main__":
    main(Path(__file__).parent / sys.argv[1])
