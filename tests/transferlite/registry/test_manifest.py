import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trained
from tests.transferlite.bundles import manifest_of, write_bundle
from transferlite.errors import BundleError, InputError, NotFoundError
from transferlite.predict.predictor import Predictor
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT, check_files, describe_files, find_bundle, read_manifest
from transferlite.registry.manifest import AutoVariant, Manifest, Variant, check_model_id


def stored(**changes: Any) -> bytes:
    """Return a manifest's JSON with changed fields; None removes a field."""
    raw = json.loads(manifest_of("one").to_json()) | changes
    return json.dumps({name: value for name, value in raw.items() if value is not None}).encode()


# -- manifest --------------------------------------------------------------------------------------------------------


def test_a_manifest_round_trips_through_json(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path, "one")
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert read_manifest(tmp_path) == manifest
    assert isinstance(read_manifest(tmp_path).variants["float32"], Variant)


def test_labels_of_any_script_are_stored_unescaped() -> None:
    manifest = manifest_of("one", labels=("猫", "chien", 'a "b", c'), variants={})
    assert "猫" in manifest.to_json().decode()
    assert Manifest.from_json(manifest.to_json()).labels == manifest.labels


def test_a_stored_manifest_is_read() -> None:
    assert Manifest.from_json(stored()) == manifest_of("one")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        stored()[:-40],
        stored(labels=None),
        stored(files=None),
        stored(input={"height": 64}),
        stored(input={"height": "64", "width": 64}),
        stored(variants={"float32": {"path": "x"}}),
        stored(variants={"float32": manifest_of("one").variants["int8"]._asdict() | {"path": {}}}),
        stored(variants=["float32"]),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_name(data: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(data, "s3://b/models/one/manifest.json")
    assert caught.value.where == "s3://b/models/one/manifest.json"


@pytest.mark.parametrize("change", [{"model_id": "../x"}, {"input": {"height": 1, "width": 1}}])
def test_a_manifest_with_an_invalid_value_counts_as_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Manifest.from_json(stored(**change), "manifest.json")


def test_fields_of_a_newer_release_are_ignored_at_every_level() -> None:
    raw = json.loads(stored(added={"any": ["thing"]}))
    raw["gate"] = [{"variant": "int8", "runtime": "ai-edge-litert 2.1", "added": 1}]
    for entry in (raw["input"], *raw["variants"].values(), *raw["files"].values()):
        entry["added"] = 1
    read = Manifest.from_json(json.dumps(raw).encode())
    assert replace(read, gate=()) == manifest_of("one")
    assert [result.variant for result in read.gate] == ["int8"]


@pytest.mark.parametrize("unknown", [{}, {"surprise": 1}])
def test_a_manifest_of_a_newer_schema_names_the_release_to_install(unknown: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"manifest schema 2 is not supported.*; install TransferLite 9\.1 or newer"):
        Manifest.from_json(stored(schema=2, min_release="9.1", **unknown))
    with pytest.raises(BundleError, match=r"manifest schema 2 is not supported.*; install a newer TransferLite"):
        Manifest.from_json(stored(schema=2, min_release=None))


@pytest.mark.parametrize("schema", [0, "1", True, 1.0])
def test_an_invalid_schema_number_is_refused(schema: object) -> None:
    with pytest.raises(BundleError, match=r"schema .* is not supported"):
        Manifest.from_json(stored(schema=schema))


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ".."])
def test_a_file_that_would_leave_the_bundle_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match="would leave the bundle"):
        Manifest.from_json(stored(files={path: {"sha256": "0" * 64, "size": 1}}))


@pytest.mark.parametrize("path", ["../x.tflite", "/etc/x.tflite", "not-in-files.tflite"])
def test_a_variant_must_be_one_of_the_bundle_s_files(path: str) -> None:
    variant = {"size": 9, "runtime": "r", "photos": 2, "accuracy": 1.0, "agreement": 1.0, "max_difference": 0.0}
    with pytest.raises(BundleError):
        Manifest.from_json(stored(variants={"float32": {"path": path} | variant}))


@pytest.mark.parametrize("labels", [(), ("cat", "cat")])
def test_missing_or_repeated_labels_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(BundleError, match="labels are missing or repeated"):
        manifest_of("one", labels=labels)


def test_serving_files_are_the_variant_and_the_labels(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path, "one")
    assert set(manifest.serving_files(["float32"])) == {"float32.tflite", "labels.txt"}
    assert set(manifest.serving_files(["float32", "int8"])) == {"float32.tflite", "int8.tflite", "labels.txt"}
    assert set(manifest.serving_files(["saved_model"])) == {"saved_model/1/saved_model.pb", "labels.txt"}


def test_an_unknown_variant_error_lists_the_variants() -> None:
    with pytest.raises(NotFoundError, match=r"no variant 'float64' \(it has saved_model, float32, int8"):
        manifest_of("one").variant("float64")


def test_a_variant_that_the_gate_left_out_error_gives_the_reason() -> None:
    with pytest.raises(NotFoundError, match=r"no variant 'dynamic' \(agreement 0.50 is below 0.95\)"):
        manifest_of("one").serving_files(["dynamic"])


# -- model id ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_id", ["20260131-235959-3f9a1c07", "a", "A.b_c-1", "0" * 100])
def test_a_model_id_is_a_safe_folder_name(model_id: str) -> None:
    assert check_model_id(model_id) == model_id


@pytest.mark.parametrize("model_id", ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "é", "0" * 101, "a\n", "a\0"])
def test_a_name_of_another_folder_is_not_a_model_id(model_id: str) -> None:
    with pytest.raises(InputError, match="is not a model id"):
        check_model_id(model_id)


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_bundle_is_found_at_its_own_folder(tmp_path: Path) -> None:
    write_bundle(tmp_path, "one")
    assert find_bundle(tmp_path) == tmp_path


def test_a_bundle_is_found_in_a_pulled_folder(tmp_path: Path) -> None:
    for model_id in ("one", "two"):
        write_bundle(tmp_path / model_id, model_id)
    (tmp_path / CURRENT).write_bytes(Pointer("two", ("one",), "").to_json())
    assert find_bundle(tmp_path) == tmp_path / "two"


def test_a_pointer_to_a_deleted_bundle_is_not_found(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_bytes(Pointer("two", (), "").to_json())
    with pytest.raises(NotFoundError, match="two: holds no bundle"):
        find_bundle(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", r"holds no bundle \(no manifest.json\); fill it with transferlite models pull"),
        ("missing", "does not exist; correct the path, or mount its disk"),
        ("file", "is a file, not a bundle; give the bundle's folder"),
        ("file.tflite", "is a file, not a bundle; use --model .*/file.tflite"),
        ("registry", "is a registry, not a bundle; use --registry .*/registry"),
    ],
)
def test_a_missing_bundle_is_not_found(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "registry" / "models").mkdir(parents=True)
    for file in ("file", "file.tflite"):
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(NotFoundError, match=f"{name}: {message}"):
        find_bundle(tmp_path / name)


def test_a_missing_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no bundle"):
        read_manifest(tmp_path)


def test_intact_files_pass_the_check(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path, "one")
    check_files(tmp_path, manifest.files)
    assert describe_files(tmp_path) == manifest.files


def test_the_check_names_a_missing_file(tmp_path: Path) -> None:
    manifest = write_bundle(tmp_path, "one")
    (tmp_path / "int8.tflite").unlink()
    with pytest.raises(BundleError, match=r"int8\.tflite: a file of the bundle is missing; pull"):
        check_files(tmp_path, manifest.files)


@pytest.mark.parametrize("content", [b"", b"a model of other size", b"an int8 model of onf"])
def test_the_check_names_an_altered_file(tmp_path: Path, content: bytes) -> None:
    manifest = write_bundle(tmp_path, "one")
    (tmp_path / "int8.tflite").write_bytes(content)
    with pytest.raises(BundleError, match=r"int8\.tflite: does not have the manifest's sha256; pull"):
        check_files(tmp_path, manifest.files)


def test_auto_names_the_variant_that_the_manifest_chooses(trained: Trained) -> None:
    manifest = read_manifest(trained.bundle)
    assert manifest.auto.variant == "float32"
    small = replace(manifest, auto=AutoVariant("int8", "fast"))
    assert small.variant("auto").path == "int8.tflite"
    assert "int8.tflite" in small.serving_files(["auto"])
    assert Manifest.from_json(small.to_json()) == small
    assert replace(manifest, auto=AutoVariant("tiny")).default_variant == "float32"


def test_a_predictor_loads_the_chosen_variant_or_the_one_that_is_there(trained: Trained, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trained.bundle, bundle)
    manifest = replace(read_manifest(bundle), auto=AutoVariant("int8", "fast"))
    (bundle / "manifest.json").write_bytes(manifest.to_json())
    assert Predictor.load(bundle).variant == Predictor.load(bundle, "auto").variant == "int8"
    assert Predictor.load(bundle, "float16").variant == "float16"
    (bundle / "int8.tflite").unlink()
    assert Predictor.load(bundle).variant == "float32"
