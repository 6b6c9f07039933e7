"""What every release has written is read by this one, and documents of newer releases are followed or explained."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.pictures import jpeg
from tests.schemas import problems
from train_job.pipeline.previous_version import read_dataset_csv
from transferlite.edge.install import install_current
from transferlite.errors import BundleError
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import check_files, find_bundle
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry

FORMATS = Path(__file__).parents[1] / "formats"
SHA256 = {"1": "d342fe67df75e0b9512f7da24700c7f66860aa7de94a6582c2176fa2662df050"}
"""sha256 over each folder's files: a published format never changes."""


@pytest.fixture(params=sorted(SHA256))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of what a release wrote."""
    return shutil.copytree(FORMATS / str(request.param), tmp_path / str(request.param))


def opened(written: Path, signing_key: str | None = None) -> Registry:
    return Registry.open(str(written / "registry"), str(written / "keys.pem"), signing_key)


@pytest.mark.parametrize("name", sorted(SHA256))
def test_the_documents_of_a_format_never_change(name: str) -> None:
    digest = hashlib.sha256()
    for path in sorted(path for path in (FORMATS / name).rglob("*") if path.is_file()):
        digest.update(path.relative_to(FORMATS).as_posix().encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest() == SHA256[name]


def test_every_format_has_a_folder() -> None:
    folders = {path.name for path in FORMATS.iterdir() if path.is_dir() and path.name.isdigit()}
    assert folders == set(SHA256)


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_every_version_loads_and_predicts(written: Path, variant: str) -> None:
    versions = list(opened(written).versions())
    assert len(versions) == 2
    for manifest in versions:
        bundle = written / "registry" / "models" / manifest.model_id
        check_files(bundle, manifest.files)
        for key in (str(written / "keys.pem"), None):
            predictor = Predictor.load(bundle, variant, 1, key)
            assert predictor(jpeg("red")).label == "red"
            assert predictor(jpeg("blue")).label == "blue"


def test_a_device_follows_the_channel(written: Path, tmp_path: Path) -> None:
    installed = install_current(opened(written), "production", tmp_path / "device")
    assert find_bundle(tmp_path / "device") == installed.bundle
    card = Registry.open(str(tmp_path / "device"), str(written / "keys.pem"))
    assert install_current(card, "production", tmp_path / "other").model_id == installed.model_id


def test_the_channels_go_on(written: Path) -> None:
    pointer = opened(written).channel("production")
    assert (pointer.previous, pointer.withdrawn) == ((), ("20260102-000000-00000002",))
    assert pointer.validity is not None
    unsigned = Registry.open(str(written / "registry"))
    staging = unsigned.channel("staging")
    assert unsigned.promote(pointer.model_id, "staging").previous == (staging.model_id,)
    assert unsigned.rollback("staging").model_id == staging.model_id


def test_a_training_job_reads_the_version_before(written: Path) -> None:
    registry = opened(written)
    examples = read_dataset_csv(registry, registry.resolve("production"))
    assert [(example.image, example.label) for example in examples] == [("a.jpg", "red"), ("b.jpg", "blue")]


def test_the_documents_fit_the_schemas_of_this_release(written: Path) -> None:
    for path in (written / "registry" / "channels").iterdir():
        assert problems("envelope", path.read_bytes()) == []
    for path in (written / "records").iterdir():
        assert problems("record", path.read_bytes()) == []
    for bundle in (written / "registry" / "models").iterdir():
        for name, file in {"manifest": MANIFEST, "golden": "golden.json", "run": "training/run.json"}.items():
            assert problems(name, (bundle / file).read_bytes()) == []


# -- newer releases --------------------------------------------------------------------------------------------------


def newer_version(written: Path, **changes: object) -> Path:
    """Add fields to a version, at every level, as a newer release would."""
    bundle = written / "registry" / "models" / "20260101-000000-00000001"
    raw = json.loads((bundle / MANIFEST).read_bytes())
    for entry in (raw, raw["input"], raw["backbone"], *raw["variants"].values(), *raw["files"].values(), *raw["gate"]):
        entry["added"] = {"by": "a newer release"}
    (bundle / MANIFEST).write_text(json.dumps(raw | changes))
    return bundle


def test_a_version_with_added_fields_is_pulled_unchanged_and_predicts(written: Path, tmp_path: Path) -> None:
    bundle = newer_version(written)
    registry = Registry.open(str(written / "registry"))
    pulled = registry.pull(bundle.name, tmp_path / "device")
    assert (pulled / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    assert Predictor.load(pulled)(jpeg("blue")).label == "blue"


def test_a_version_of_a_newer_schema_names_the_release_to_install(written: Path, tmp_path: Path) -> None:
    bundle = newer_version(written, schema=2, min_release="9.1")
    registry = Registry.open(str(written / "registry"))
    with pytest.raises(BundleError, match=r"manifest schema 2 is not supported.*install TransferLite 9\.1 or newer"):
        registry.pull(bundle.name, tmp_path / "device")
    errors: list[BundleError] = []
    assert [manifest.model_id for manifest in registry.versions(errors.append)] == ["20260102-000000-00000002"]
    assert len(errors) == 1
