"""Put a bundle together: the model files, the labels, the record of the training, and the manifest last."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from runtime.bundle import LABELS, MANIFEST, Manifest, describe_files


def seal(folder: Path, manifest: Manifest, records: Mapping[str, str]) -> Manifest:
    """Complete the bundle in ``folder``, which holds the variants' files.

    TFLite files of variants that were left out are removed; the labels and ``records`` (text files by relative path)
    are written; then every file is described, and the manifest written.

    Returns the manifest with its files.
    """
    for name in manifest.left_out:
        (folder / f"{name}.tflite").unlink()
    (folder / LABELS).write_text("".join(f"{label}\n" for label in manifest.labels), encoding="utf-8")
    for path, text in records.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sealed = dataclasses.replace(manifest, files=describe_files(folder))
    (folder / MANIFEST).write_bytes(sealed.to_json())
    return sealed
