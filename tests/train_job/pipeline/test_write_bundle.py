import hashlib
from pathlib import Path

import pytest

from train_job.pipeline.write_bundle import complete_bundle
from transferlite.images.input_spec import InputSpec
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.manifest import Manifest, Variant

TEXT_FILES = {"training/history.csv": "epoch,loss\n1,0.5\n", "training/deep/notes.txt": "ü\n"}


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


def test_the_manifest_lists_every_other_file(folder: Path) -> None:
    complete = complete_bundle(folder, manifest(), TEXT_FILES)
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert paths == {*complete.files, "manifest.json"}
    assert {*TEXT_FILES, "labels.txt", "float32.tflite", "int8.tflite", "saved_model/1/variables/index"} == set(
        complete.files
    )
    for name, info in complete.files.items():
        content = (folder / name).read_bytes()
        assert (info.sha256, info.size) == (hashlib.sha256(content).hexdigest(), len(content))


def test_the_written_manifest_equals_the_returned_one(folder: Path) -> None:
    complete = complete_bundle(folder, manifest(), TEXT_FILES)
    assert read_manifest(folder) == complete
    check_files(folder, complete.files)


def test_the_manifest_is_written_last_and_not_at_all_on_errors(folder: Path) -> None:
    (folder / "training").write_text("a file in the records' way")
    with pytest.raises(OSError):
        complete_bundle(folder, manifest(), TEXT_FILES)
    assert not (folder / "manifest.json").exists()


def test_files_of_variants_left_out_are_removed(folder: Path) -> None:
    complete = complete_bundle(folder, manifest(int8="3 of 10 photos right where Keras has 9"), {})
    assert not (folder / "int8.tflite").exists()
    assert "int8.tflite" not in complete.files
    assert "float32.tflite" in complete.files


def test_labels_txt_has_a_line_per_label_in_the_models_order(folder: Path) -> None:
    complete_bundle(folder, manifest(), {})
    assert (folder / "labels.txt").read_bytes() == "Käfer\ntwo words\n".encode()


def test_text_files_are_written_unchanged(folder: Path) -> None:
    complete_bundle(folder, manifest(), TEXT_FILES)
    assert {name: (folder / name).read_text(encoding="utf-8") for name in TEXT_FILES} == TEXT_FILES
