import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.gate.runtimes import tflite_predict
from export.tflite.metadata import ModelInfo, add_metadata
from export.tflite.tflite_file import read_tflite
from tests.conftest import Trained
from transferlite.errors import BundleError
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.inference.tflite_metadata import read_metadata
from transferlite.registry.local_bundle import read_manifest

LABELS = ("chat", "狗", "a, b; c", "with\u2028separator", " spaces ")


def model_info(**changes: object) -> ModelInfo:
    known = {"model_id": "20260131-235959-3f9a1c07", "created_at": "2026-01-31T23:59:59+00:00", "backbone": "lite0"}
    return ModelInfo(**known | {"labels": LABELS, "input": InputSpec(64, 64)} | changes)  # type: ignore[arg-type]


@pytest.fixture
def bare(trained: Trained, tmp_path: Path) -> Path:
    """The float32 file without its metadata."""
    from export.tflite.tflite_file import write_tflite

    model = read_tflite((trained.bundle / "float32.tflite").read_bytes())
    model.metadata = []
    path = tmp_path / "bare.tflite"
    path.write_bytes(write_tflite(model))
    return path


def tflite_files(trained: Trained) -> list[Path]:
    return sorted(trained.bundle.glob("*.tflite"))


def test_every_tflite_file_of_a_bundle_contains_its_version_and_labels(trained: Trained) -> None:
    manifest = read_manifest(trained.bundle)
    assert len(tflite_files(trained)) >= 2
    for path in tflite_files(trained):
        metadata = read_metadata(path)
        assert metadata.labels == manifest.labels
        assert (metadata.mean, metadata.std) == ((0.0,), (1.0,))
        assert metadata.about["model_id"] == manifest.model_id == trained.bundle.name
        assert metadata.about["created_at"] == manifest.created_at
        assert metadata.about["decoder_version"] == DECODER_VERSION
        assert metadata.about["transferlite"] == manifest.software["transferlite"] != ""


def test_a_tflite_file_is_a_zip_archive_with_the_labels(trained: Trained) -> None:
    for path in tflite_files(trained):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.read("labels.txt") == (trained.bundle / "labels.txt").read_bytes() == b"blue\nred\n"
            assert json.loads(archive.read("transferlite.json"))["model_id"] == trained.bundle.name


def test_any_label_is_read_back_unchanged(bare: Path) -> None:
    add_metadata(bare, model_info())
    assert read_metadata(bare).labels == LABELS


def test_a_file_without_metadata_has_empty_fields(bare: Path) -> None:
    metadata = read_metadata(bare)
    assert (metadata.labels, metadata.mean, metadata.std, metadata.about) == ((), (), (), {})


def test_metadata_change_no_prediction_and_are_reproducible(bare: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(bare, tmp_path / "copy.tflite"))
    photos = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    before = tflite_predict(bare)(photos)
    add_metadata(bare, model_info(labels=("blue", "red")))
    add_metadata(copy, model_info(labels=("blue", "red")))
    np.testing.assert_array_equal(tflite_predict(bare)(photos), before)
    assert bare.read_bytes() == copy.read_bytes()


def test_tensorflow_loads_a_file_with_metadata(trained: Trained) -> None:
    import tensorflow as tf

    loaded = tf.lite.Interpreter(model_path=str(trained.bundle / "int8.tflite"))
    loaded.allocate_tensors()
    assert loaded.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["features", "probabilities"]}
    }


def test_the_metadata_follow_the_schema(bare: Path) -> None:
    """Reads slot by slot with the flatbuffers package; the product has its own short reader."""
    from flatbuffers.number_types import Float32Flags, Int8Flags, Uint8Flags
    from flatbuffers.table import Table

    add_metadata(bare, model_info(threshold=0.75))
    model = read_tflite(bare.read_bytes())
    (entry,) = [candidate for candidate in model.metadata if candidate.name == b"TFLITE_METADATA"]
    data = model.buffers[entry.buffer].data.tobytes()
    assert data[4:8] == b"M001"

    def follow(table: Table, slot: int, item: int | None = None) -> Table:
        offset = table.Offset(4 + 2 * slot)
        position = table.Vector(offset) + 4 * item if item is not None else offset + table.Pos
        return Table(data, table.Indirect(position))

    def text(table: Table, slot: int) -> str:
        return bytes(table.String(table.Offset(4 + 2 * slot) + table.Pos)).decode()

    root = Table(data, int.from_bytes(data[:4], "little"))
    assert [text(root, slot) for slot in (2, 7)] == ["20260131-235959-3f9a1c07", "1.0.0"]
    assert "uint8 RGB of 64x64" in text(root, 1)
    graph = follow(root, 3, 0)
    image, probabilities = follow(graph, 2, 0), follow(graph, 3, 0)
    assert (text(image, 0), text(probabilities, 0)) == ("image", "probabilities")
    content = follow(image, 3)
    assert content.GetSlot(4, 0, Uint8Flags) == 2  # ImageProperties
    assert follow(content, 1).GetSlot(4, 0, Int8Flags) == 1  # RGB
    unit = follow(probabilities, 4, 0)
    assert unit.GetSlot(4, 0, Uint8Flags) == 3  # ScoreThresholdingOptions
    assert follow(unit, 1).GetSlot(4, 0, Float32Flags) == 0.75
    assert text(follow(probabilities, 6, 0), 0) == "labels.txt"


def replace_archive(path: Path, write: Callable[[zipfile.ZipFile], None]) -> None:
    """Replace the zip archive behind the model by the one that ``write`` fills."""
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "blue\nred\n")
        write(archive)


def add_entries(archive: zipfile.ZipFile, count: int) -> None:
    for number in range(count):
        archive.writestr(f"{number}", "")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda archive: add_entries(archive, 256), "its zip archive has 257 entries, more than 256"),
        (lambda archive: archive.writestr("x", bytes(200_000)), "'x' of its zip archive unpacks to over 100 times"),
        (lambda archive: add_entries(archive, 2000), "the directory of its zip archive is too large"),
        (
            lambda archive: [archive.writestr(f"{n}", np.random.default_rng(n).bytes(2**22)) for n in range(4)],
            "its zip archive unpacks to 16777225 bytes, more than 16777216",
        ),
    ],
)
def test_a_zip_bomb_behind_the_model_is_refused_before_it_is_unpacked(
    bare: Path, write: Callable[[zipfile.ZipFile], None], message: str
) -> None:
    add_metadata(bare, model_info(labels=("blue", "red")))
    replace_archive(bare, write)
    with pytest.raises(BundleError, match=message):
        read_metadata(bare)


def test_a_zip64_directory_is_refused(bare: Path) -> None:
    add_metadata(bare, model_info())
    content = bare.read_bytes()
    end = content.rindex(b"PK\5\6")
    bare.write_bytes(content[:end] + b"PK\6\7" + bytes(16) + content[end:])
    with pytest.raises(BundleError, match="the directory of its zip archive is too large"):
        read_metadata(bare)


def test_a_size_that_the_archive_understates_is_refused(bare: Path) -> None:
    add_metadata(bare, model_info(labels=("blue", "red")))
    replace_archive(bare, lambda archive: archive.writestr("x", bytes(10**6)))
    content = bytearray(bare.read_bytes())
    true_size = (10**6).to_bytes(4, "little")
    for position in (content.index(true_size), content.rindex(true_size)):
        content[position : position + 4] = (1000).to_bytes(4, "little")
    bare.write_bytes(content)
    with pytest.raises(BundleError, match="its metadata cannot be read"):
        read_metadata(bare)


def test_the_labels_of_100000_classes_are_read(bare: Path) -> None:
    labels = tuple(f"class number {number}" for number in range(100_000))
    add_metadata(bare, model_info(labels=labels))
    assert read_metadata(bare).labels == labels


def test_damaged_metadata_raise_no_other_error(bare: Path) -> None:
    add_metadata(bare, model_info())
    content = bare.read_bytes()
    start, end = content.index(b"M001") - 4, content.index(b"PK\x03\x04")
    near = [*range(start, start + 1000, 9), *range(end, len(content), 9)]
    refused = 0
    for position in near:
        bare.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        with contextlib.suppress(BundleError):
            read_metadata(bare)
            continue
        refused += 1
    assert refused > 3
