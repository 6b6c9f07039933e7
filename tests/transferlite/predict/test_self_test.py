import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import Trained
from tests.pictures import jpeg
from tests.transferlite.bundles import manifest_of
from transferlite.errors import BundleError
from transferlite.inference.variants import TFLITE_VARIANTS
from transferlite.predict.predictor import Predictor
from transferlite.predict.self_test import SelfTest
from transferlite.registry.local_bundle import describe_files, read_manifest
from transferlite.registry.manifest import GOLDEN, MANIFEST, FileInfo, Manifest

PHOTOS = (b"first", b"second")
NAMES = (*TFLITE_VARIANTS, "float32_batch8")
EXPECTED = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)


def self_test() -> SelfTest:
    return SelfTest(PHOTOS, dict.fromkeys(NAMES, EXPECTED))


def predicting(error: float, wrong_photo: bytes = b"first") -> Any:
    """A model with the expected probabilities, except for an error in one of them."""

    def predict(photo: bytes) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = EXPECTED[PHOTOS.index(photo)].copy()
        probabilities[1] += error if photo == wrong_photo else 0
        return probabilities

    return predict


@pytest.mark.parametrize(
    ("variant", "error"),
    [
        ("float32", 0.0),
        ("float32", 9e-4),
        ("float32_batch8", 9e-4),
        ("float16", 9e-3),
        ("dynamic", 0.2),
        ("int8", -0.2),
    ],
)
def test_rounding_of_kernels_passes(variant: str, error: float) -> None:
    assert self_test().check(variant, predicting(error)) == pytest.approx(abs(error), abs=1e-6)


@pytest.mark.parametrize(
    ("variant", "error", "message"),
    [
        ("float32", 0.002, r"reference by 0\.002 \(limit 0\.001\)"),
        ("float32_batch8", 0.002, r"reference by 0\.002 \(limit 0\.001\)"),
        ("float16", 0.02, r"reference by 0\.02 \(limit 0\.01\)"),
        ("dynamic", 0.3, r"reference by 0\.3 \(limit 0\.25\)"),
        ("int8", 0.3, r"reference by 0\.3 \(limit 0\.25\)"),
    ],
)
def test_a_larger_difference_is_refused_and_printed(variant: str, error: float, message: str) -> None:
    with pytest.raises(BundleError, match=rf"^x\.tflite: .*{message}; this runtime computes the model wrongly"):
        self_test().check(variant, predicting(error), "x.tflite")


def test_quantised_variants_predict_every_photo_and_exact_ones_the_first() -> None:
    with pytest.raises(BundleError, match=r"reference by 0\.3"):
        self_test().check("int8", predicting(0.3, b"second"))
    assert self_test().check("float32", predicting(0.3, b"second")) == 0


def test_a_probability_of_nan_is_refused() -> None:
    for variant in NAMES:
        with pytest.raises(BundleError, match="by nan"):
            self_test().check(variant, predicting(np.nan))


def test_another_number_of_labels_is_refused() -> None:
    with pytest.raises(BundleError, match="number of labels differs"):
        self_test().check("int8", lambda _: np.array([0.2, 0.3, 0.5], np.float32))


def test_a_variant_without_expected_probabilities_is_refused() -> None:
    with pytest.raises(BundleError, match="no probabilities for float64"):
        self_test().check("float64", predicting(0))


def test_json_round_trip() -> None:
    read = SelfTest.from_json(self_test().to_json())
    assert read.photos == PHOTOS
    assert set(read.expected) == set(NAMES)
    np.testing.assert_allclose(read.expected["int8"], EXPECTED, atol=1e-7)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"pictures": [], "expected": {}}',
        b'{"pictures": ["!"], "expected": {}}',
        b'{"pictures": [7], "expected": {}}',
        b'{"pictures": ["QQ=="], "expected": []}',
        b'{"pictures": ["QQ=="], "expected": {"float32": [[0.5, 0.5], [0.5, 0.5]]}}',
        b'{"pictures": ["QQ=="], "expected": {"float32": [0.5]}}',
        b'{"pictures": ["QQ=="], "expected": {"float32": [["a"]]}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_a_bundle_error(content: bytes) -> None:
    with pytest.raises(BundleError, match="the self-test"):
        SelfTest.from_json(content)


def test_the_self_test_must_be_a_file_of_the_bundle() -> None:
    with pytest.raises(BundleError, match=r"'golden\.json' is not in the bundle"):
        Manifest.from_json(manifest_of("one", golden=GOLDEN).to_json())


def test_a_manifest_without_a_self_test_is_read() -> None:
    raw = json.loads(manifest_of("one").to_json())
    del raw["golden"]
    assert Manifest.from_json(json.dumps(raw).encode()).golden == ""


def test_the_self_test_is_a_serving_file() -> None:
    files = {**manifest_of("one").files, GOLDEN: FileInfo("0" * 64, 9)}
    manifest = manifest_of("one", golden=GOLDEN, files=files)
    assert set(manifest.serving_files(["int8"])) == {"int8.tflite", "labels.txt", GOLDEN}


def altered(trained: Trained, folder: Path, change: Any) -> Path:
    """The trained bundle with a changed self-test, and a manifest with its new sha256."""
    manifest = read_manifest(trained.bundle)
    for name in manifest.serving_files(TFLITE_VARIANTS):
        (folder / name).write_bytes((trained.bundle / name).read_bytes())
    raw = json.loads((folder / GOLDEN).read_bytes())
    change(raw)
    (folder / GOLDEN).write_text(json.dumps(raw))
    files = {**manifest.files, GOLDEN: describe_files(folder)[GOLDEN]}
    (folder / MANIFEST).write_bytes(replace(manifest, files=files).to_json())
    return folder


@pytest.mark.parametrize("variant", TFLITE_VARIANTS)
def test_a_model_with_other_probabilities_is_not_loaded(trained: Trained, tmp_path: Path, variant: str) -> None:
    def swap(raw: Any) -> None:
        raw["expected"][variant] = [row[::-1] for row in raw["expected"][variant]]

    with pytest.raises(
        BundleError, match=rf"{variant}\.tflite: self-test failed: .* differs from the reference by 0\.\d"
    ):
        Predictor.load(altered(trained, tmp_path, swap), variant)


def test_a_self_test_photo_that_cannot_be_decoded_is_a_bundle_error(trained: Trained, tmp_path: Path) -> None:
    def spoil(raw: Any) -> None:
        raw["pictures"][0] = "QUJD"

    with pytest.raises(BundleError, match="a self-test photo cannot be decoded"):
        Predictor.load(altered(trained, tmp_path, spoil))


def test_a_bundle_without_a_self_test_is_loaded(trained: Trained, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path, lambda raw: raw["expected"].clear())
    (folder / MANIFEST).write_bytes(replace(read_manifest(folder), golden="").to_json())
    assert Predictor.load(folder)(jpeg("red")).label == "red"


@pytest.mark.parametrize("path", [["golden.json"], {}, None, "elsewhere.json"])
def test_a_manifest_with_a_wrong_self_test_path_is_damaged(path: object) -> None:
    raw = json.loads(manifest_of("one").to_json()) | {"golden": path}
    with pytest.raises(BundleError, match=r"is not a string|is not in the bundle"):
        Manifest.from_json(json.dumps(raw).encode())
