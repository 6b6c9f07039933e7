"""Feature rows of real photos, for benchmarks of what is computed on rows: they are extracted once and then reused."""

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Feature rows of EfficientNet-Lite0, ``[N, 1280]``."""


def test_data() -> Path:
    """Folder of real photos: ``$TRANSFERLITE_TEST_DATA``, or ``shared/data`` beside the checkout."""
    return Path(os.environ.get("TRANSFERLITE_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")


def feature_rows(paths: list[Path]) -> Rows:
    """Decode photos and run them through the frozen backbone that training uses, in float16 as the store keeps them."""
    from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE
    from train_job.backbones.efficientnet_lite_file import efficientnet_lite_tflite
    from train_job.extraction.forward_pass import available_cores, litert_forward_pass
    from transferlite.images.decoder import decode
    from transferlite.images.input_spec import InputSpec

    spec = InputSpec(224, 224)
    content = efficientnet_lite_tflite(EFFICIENTNET_LITE["efficientnet_lite0"], spec)
    forward = litert_forward_pass(content, available_cores())
    items = [(index, partial(lambda path: decode(path.read_bytes(), spec), path)) for index, path in enumerate(paths)]
    rows = np.stack([outputs[0] for _, outputs in forward.run(items)])
    return rows.astype(np.float16).astype(np.float32)


def class_folders(folder: Path) -> tuple[Rows, NDArray[np.int64], list[str]]:
    """Rows of the photos in a folder per class, the index of each photo's class, and the names of the classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths = [sorted(path for path in (folder / name).iterdir() if path.is_file()) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(found) for found in paths])
    flat = [path for found in paths for path in found]
    return _cached(folder.resolve(), flat), labels, names


def cats_and_dogs() -> tuple[Rows, NDArray[np.int64], Rows, NDArray[np.int64]]:
    """Rows and labels of the 200 training photos, then of the 200 test photos."""
    import csv

    folder = test_data() / "catsdogs"
    with (folder / "label-train.csv").open() as file:
        lines = list(csv.DictReader(file))
    names = sorted({line["Label"] for line in lines})
    paths = [folder / "train_img" / line["File Name"] for line in lines]
    labels = np.array([names.index(line["Label"]) for line in lines])
    test_rows, test_labels, _ = class_folders(folder / "test_img")
    return _cached(folder / "train_img", paths), labels, test_rows, test_labels


def _cached(folder: Path, paths: list[Path]) -> Rows:
    """Rows of photos, kept in the temporary folder for the next run."""
    name = str(folder.resolve()).strip("/").replace("/", "-")
    file = Path(tempfile.gettempdir()) / f"transferlite-rows-{name}-{len(paths)}.npy"
    if not file.is_file():
        np.save(file, feature_rows(paths))
    rows: Rows = np.load(file)
    return rows
