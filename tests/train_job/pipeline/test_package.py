import hashlib
from pathlib import Path

import pytest

from train_job.pipeline.write_records import seal
from transferlite.images.input_spec import InputSpec
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.manifest import Manifest, Variant

RECORDS = {"training/history.csv": "epoch,loss\n1,0.5\n", "training/deep/notes.txt": "ü\n"}


def manifest(**left_out: str) -> Manifest:
    variants = {"float32": Variant("float32.tflite", 3, "ai-edge-litert", 10, 0.9, 1.0, 1e-6)}
    return Manifest("m1", "now", ("Käfer", "two words"), InputSpec(32, 48), {}, {}, {}, {}, variants, left_out, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "saved_model" / "1" / "variables").mkdir(parents=True)
    (tmp_path / "saved_model" / "1" / "variables" / "index").write_bytes(b"variables")
    for name in ("float32", "int8"):
        (tmp_path / f"{name}.tflite").write_bytes(name.encode())
    return tmp_path


def test_every_file_but_the_manifest_is_described(folder: Path) -> None:
    sealed = seal(folder, manifest(), RECORDS)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*sealed.files, "manifest.json"}
    assert {*RECORDS, "labels.txt", "float32.tflite", "int8.tflite", "saved_model/1/variables/index"} == set(
        sealed.files
    )
    for name, info in sealed.files.items():
        content = (folder / name).read_bytes()
        assert (info.sha256, info.size) == (hashlib.sha256(content).hexdigest(), len(content))


def test_the_manifest_reads_back_as_it_was_returned(folder: Path) -> None:
    sealed = seal(folder, manifest(), RECORDS)
    assert read_manifest(folder) == sealed
    check_files(folder, sealed.files)


def test_the_manifest_is_written_last_and_not_at_all_if_anything_fails(folder: Path) -> None:
    (folder / "training").write_text("a file in the records' way")
    with pytest.raises(OSError):
        seal(folder, manifest(), RECORDS)
    assert not (folder / "manifest.json").exists()


def test_files_of_variants_left_out_are_removed(folder: Path) -> None:
    sealed = seal(folder, manifest(int8="3 of 10 photos right where Keras has 9"), {})
    assert not (folder / "int8.tflite").exists()
    assert "int8.tflite" not in sealed.files
    assert "float32.tflite" in sealed.files


def test_labels_are_a_line_each_in_the_models_order(folder: Path) -> None:
    seal(folder, manifest(), {})
    assert (folder / "labels.txt").read_bytes() == "Käfer\ntwo words\n".encode()


def test_records_are_written_as_they_are(folder: Path) -> None:
    seal(folder, manifest(), RECORDS)
    assert {name: (folder / name).read_text(encoding="utf-8") for name in RECORDS} == RECORDS
