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

PICTURES = (b"first", b"second")
NAMES = (*TFLITE_VARIANTS, "float32_batch8")
EXPECTED = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)


def golden(**expected: Any) -> SelfTest:
    return SelfTest(PICTURES, expected or dict.fromkeys(NAMES, EXPECTED))


def answering(off: float, wrong: bytes = b"first") -> Any:
    """A model that differs by so much in one probability of a picture."""

    def answers(picture: bytes) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = EXPECTED[PICTURES.index(picture)].copy()
        answer[1] += off if picture == wrong else 0
        return answer

    return answers


@pytest.mark.parametrize(
    ("variant", "off"),
    [
        ("float32", 0.0),
        ("float32", 9e-4),
        ("float32_batch8", 9e-4),
        ("float16", 9e-3),
        ("dynamic", 0.2),
        ("int8", -0.2),
    ],
)
def test_what_kernels_may_differ_by_passes(variant: str, off: float) -> None:
    assert golden().check(variant, answering(off)) == pytest.approx(abs(off), abs=1e-6)


@pytest.mark.parametrize(
    ("variant", "off", "says"),
    [
        ("float32", 0.002, r"differs by 0\.002 \(limit 0\.001\)"),
        ("float32_batch8", 0.002, r"differs by 0\.002 \(limit 0\.001\)"),
        ("float16", 0.02, r"differs by 0\.02 \(limit 0\.01\)"),
        ("dynamic", 0.3, r"differs by 0\.3 \(limit 0\.25\)"),
        ("int8", 0.3, r"differs by 0\.3 \(limit 0\.25\)"),
    ],
)
def test_more_than_that_is_refused_with_the_difference(variant: str, off: float, says: str) -> None:
    with pytest.raises(BundleError, match=rf"^x\.tflite: .*{says}; the runtime computes it wrongly"):
        golden().check(variant, answering(off), "x.tflite")


def test_of_a_coarse_variant_every_picture_is_asked_and_of_an_exact_one_the_least_sure() -> None:
    with pytest.raises(BundleError, match=r"differs by 0\.3"):
        golden().check("int8", answering(0.3, b"second"))
    assert golden().check("float32", answering(0.3, b"second")) == 0


def test_an_answer_that_is_no_number_is_refused() -> None:
    for variant in NAMES:
        with pytest.raises(BundleError, match="differs by nan"):
            golden().check(variant, answering(np.nan))


def test_answers_of_another_count_of_labels_are_refused() -> None:
    with pytest.raises(BundleError, match="other labels"):
        golden().check("int8", lambda _: np.array([0.2, 0.3, 0.5], np.float32))


def test_a_variant_without_answers_is_refused() -> None:
    with pytest.raises(BundleError, match="no answers of float64"):
        golden().check("float64", answering(0))


def test_what_is_stored_is_read_back() -> None:
    read = SelfTest.from_json(golden().to_json())
    assert read.pictures == PICTURES
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
    with pytest.raises(BundleError, match="test pictures"):
        SelfTest.from_json(content)


def test_test_pictures_must_be_one_of_the_bundle_s_files() -> None:
    with pytest.raises(BundleError, match=r"'golden\.json' are no file of the bundle"):
        Manifest.from_json(manifest_of("one", golden=GOLDEN).to_json())


def test_a_manifest_from_before_there_were_any_is_read() -> None:
    raw = json.loads(manifest_of("one").to_json())
    del raw["golden"]
    assert Manifest.from_json(json.dumps(raw).encode()).golden == ""


def test_serving_takes_the_test_pictures_along() -> None:
    files = {**manifest_of("one").files, GOLDEN: FileInfo("0" * 64, 9)}
    manifest = manifest_of("one", golden=GOLDEN, files=files)
    assert set(manifest.serving_files(["int8"])) == {"int8.tflite", "labels.txt", GOLDEN}


def altered(trained: Trained, folder: Path, change: Any) -> Path:
    """The trained bundle with other test pictures, and a manifest that fits them."""
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
def test_a_model_that_answers_otherwise_is_not_loaded(trained: Trained, tmp_path: Path, variant: str) -> None:
    def swap(raw: Any) -> None:
        raw["expected"][variant] = [row[::-1] for row in raw["expected"][variant]]

    with pytest.raises(BundleError, match=rf"{variant}\.tflite: does not answer its test pictures .* differs by 0\.\d"):
        Predictor.load(altered(trained, tmp_path, swap), variant)


def test_a_picture_that_cannot_be_decoded_is_a_bundle_error(trained: Trained, tmp_path: Path) -> None:
    def spoil(raw: Any) -> None:
        raw["pictures"][0] = "QUJD"

    with pytest.raises(BundleError, match="a test picture cannot be used"):
        Predictor.load(altered(trained, tmp_path, spoil))


def test_a_bundle_without_test_pictures_is_loaded(trained: Trained, tmp_path: Path) -> None:
    folder = altered(trained, tmp_path, lambda raw: raw["expected"].clear())
    (folder / MANIFEST).write_bytes(replace(read_manifest(folder), golden="").to_json())
    assert Predictor.load(folder)(jpeg("red")).label == "red"


@pytest.mark.parametrize("named", [["golden.json"], {}, None, "elsewhere.json"])
def test_a_manifest_that_names_its_pictures_oddly_is_damaged(named: object) -> None:
    raw = json.loads(manifest_of("one").to_json()) | {"golden": named}
    with pytest.raises(BundleError, match="test pictures"):
        Manifest.from_json(json.dumps(raw).encode())
