import gc
import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import transferlite
from tests.conftest import Trained
from tests.pictures import COLOURS, jpeg
from train_job.evaluation.fit_familiarity import fit_familiarity
from transferlite.errors import BundleError, InputError, NotFoundError, PhotoError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.inference.prediction import Prediction
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import describe_files, read_manifest
from transferlite.registry.manifest import FAMILIARITY, MANIFEST

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return Predictor.load(trained.bundle)


@pytest.fixture
def changed(trained: Trained, tmp_path: Path) -> Callable[..., Path]:
    """Copy the trained bundle's float32 files with changed fields in the manifest."""

    def work(**changes: Any) -> Path:
        manifest = read_manifest(trained.bundle)
        for name in manifest.serving_files(["float32"]):
            (tmp_path / name).symlink_to(trained.bundle / name)
        (tmp_path / MANIFEST).write_bytes(replace(manifest, **changes).to_json())
        return tmp_path

    return work


def test_the_package_offers_the_predictor() -> None:
    assert transferlite.Predictor is Predictor
    assert transferlite.Prediction is Prediction
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = transferlite.Trainer  # type: ignore[attr-defined]


def test_importing_the_predictor_loads_neither_numpy_nor_pillow() -> None:
    code = (
        "import sys; from transferlite import Predictor; print({'numpy', 'PIL', 'boto3', 'click'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_loading_imports_no_unneeded_module(trained: Trained) -> None:
    code = (
        f"from transferlite import Predictor; Predictor.load({str(trained.bundle)!r}); import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    unneeded = {
        "base64",
        "boto3",
        "click",
        "transferlite.inference.mean_and_std",
        "transferlite.predict.foreign_tflite",
        "transferlite.trust.keys",
    }
    assert unneeded & set(done.stdout.split()) == set()


@pytest.mark.parametrize("colour", ["blue", "red"])
@pytest.mark.parametrize("size", [(64, 64), (64, 48), (40, 90), (300, 200)])
def test_unseen_photos_get_their_label(predictor: Predictor, colour: str, size: tuple[int, int]) -> None:
    for number in range(100, 104):
        assert predictor(jpeg(colour, number, size)).label == colour


def test_every_form_of_a_photo_gives_the_same_prediction(predictor: Predictor, tmp_path: Path) -> None:
    data = jpeg("red", 99)
    (tmp_path / "photo").write_bytes(data)
    expected = predictor(data)
    for photo in (
        data,
        tmp_path / "photo",
        str(tmp_path / "photo"),
        decode(data),
        decode(data, predictor.manifest.input),
        Image.open(io.BytesIO(data)),
        Image.fromarray(decode(data)),
    ):
        assert predictor(photo) == expected


def test_the_prediction_depends_on_the_pixels_only(predictor: Predictor) -> None:
    pixels = decode(jpeg("blue", 99))
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    assert predictor(png.getvalue()) == predictor(pixels)


@pytest.mark.parametrize("collecting", [True, False])
def test_a_load_leaves_the_garbage_collector_as_it_was(trained: Trained, collecting: bool) -> None:
    try:
        (gc.enable if collecting else gc.disable)()
        Predictor.load(trained.bundle)
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


def test_two_loads_predict_alike(predictor: Predictor, trained: Trained) -> None:
    again = Predictor.load(str(trained.bundle), threads=1)
    for number in range(5):
        assert again(jpeg("red", number)) == predictor(jpeg("red", number))


def test_probabilities_sum_to_one(predictor: Predictor) -> None:
    for colour in COLOURS:
        probabilities = predictor.probabilities(jpeg(colour, 99))
        assert probabilities.shape == (2,)
        assert probabilities.dtype == np.float32
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "top", "expected"),
    [
        ([0.25, 0.75], 3, [("red", 0.75), ("blue", 0.25)]),
        ([0.75, 0.25], 3, [("blue", 0.75), ("red", 0.25)]),
        ([0.5, 0.5], 3, [("blue", 0.5), ("red", 0.5)]),
        ([0.25, 0.75], 1, [("red", 0.75)]),
        ([0.25, 0.75], 0, []),
    ],
)
def test_the_top_labels_are_in_order(
    predictor: Predictor, probabilities: list[float], top: int, expected: list[tuple[str, float]]
) -> None:
    prediction = predictor.prediction_from(np.array(probabilities, np.float32), top)
    assert prediction.top == tuple(expected)
    assert (prediction.label, prediction.score) == (
        ("red", 0.75) if probabilities[1] > 0.5 else ("blue", probabilities[0])
    )


def test_a_prediction_as_json() -> None:
    prediction = Prediction("one", "red", 0.75, (("red", 0.75), ("blue", 0.25)))
    assert prediction.to_dict() == {
        "model_id": "one",
        "label": "red",
        "score": 0.75,
        "top": [{"label": "red", "score": 0.75}, {"label": "blue", "score": 0.25}],
    }


@pytest.mark.parametrize(
    "array",
    [np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8), np.zeros((1, 64, 64, 3), np.uint8)],
    ids=["float", "grey", "batch"],
)
def test_a_wrong_array_is_refused(predictor: Predictor, array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"expected uint8 RGB \[H, W, 3\]"):
        predictor(array)


def test_a_pillow_image_is_turned_upright_and_composited_over_white(predictor: Predictor) -> None:
    rotated = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8))
    rotated.getexif()[0x0112] = 6  # EXIF orientation: rotate by 270 degrees
    transparent = Image.new("RGBA", (64, 64), (200, 50, 30, 0))
    for image in (rotated, transparent):
        file = io.BytesIO()
        image.save(file, "PNG", exif=image.getexif())
        assert predictor(image) == predictor(file.getvalue())


def test_a_truncated_pillow_image_is_a_photo_error(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg("red")[:-20])
    with pytest.raises(PhotoError, match=r"cut\.jpg: cannot be decoded") as caught:
        predictor(Image.open(tmp_path / "cut.jpg"))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("thing", [None, 7, ["photo.jpg"]])
def test_an_unsupported_type_is_refused(predictor: Predictor, thing: Any) -> None:
    with pytest.raises(InputError, match=f"a {type(thing).__name__} is not a photo"):
        predictor(thing)


def test_a_missing_photo_is_reported_with_its_path(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.jpg: cannot be read \(No such file"):
        predictor(tmp_path / "nothing.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        predictor(tmp_path)


def test_a_truncated_photo_is_reported_with_its_path(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg("red")[:-20])
    with pytest.raises(PhotoError, match=r"cut\.jpg: cannot be decoded") as caught:
        predictor(str(tmp_path / "cut.jpg"))
    assert caught.value.code == "truncated"


def test_the_int8_variant_agrees_on_every_label(predictor: Predictor, trained: Trained) -> None:
    int8 = Predictor.load(trained.bundle, "int8")
    for path in sorted(trained.photos.rglob("*.jpg")):
        assert int8(path).label == predictor(path).label == path.parent.name


@pytest.mark.parametrize("variant", ["float64", ""])
def test_an_unknown_variant_is_not_found(trained: Trained, variant: str) -> None:
    with pytest.raises(NotFoundError, match=f"no variant '{variant}'"):
        Predictor.load(trained.bundle, variant)


def test_the_saved_model_is_refused(trained: Trained) -> None:
    with pytest.raises(BundleError, match="saved_model"):
        Predictor.load(trained.bundle, "saved_model")


@pytest.mark.parametrize("name", ["float32.tflite", "labels.txt"])
def test_an_altered_file_is_refused(changed: Callable[..., Path], name: str) -> None:
    bundle = changed()
    content = (bundle / name).read_bytes()
    (bundle / name).unlink()
    (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{name}: does not have the manifest's sha256"):
        Predictor.load(bundle)


def test_a_missing_file_is_refused(changed: Callable[..., Path]) -> None:
    bundle = changed()
    (bundle / "float32.tflite").unlink()
    with pytest.raises(BundleError, match=r"float32\.tflite: a file of the bundle is missing"):
        Predictor.load(bundle)


def test_a_bundle_of_a_compatible_decoder_is_loaded(changed: Callable[..., Path]) -> None:
    assert Predictor.load(changed(decoder_version=1)).manifest.decoder_version == 1


def test_a_bundle_of_an_incompatible_decoder_is_refused(changed: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=f"decoder {DECODER_VERSION + 1}; this release has {DECODER_VERSION}"):
        Predictor.load(changed(decoder_version=DECODER_VERSION + 1))


@pytest.mark.parametrize(
    "changes", [{"labels": ("a", "b", "c")}, {"input": InputSpec(32, 64)}], ids=["three labels", "another size"]
)
def test_a_model_of_another_shape_than_the_manifest_s_is_refused(
    changed: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises(BundleError, match="the model's shape differs from the manifest's"):
        Predictor.load(changed(**changes))


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x1c\0\0\0TFL3" + bytes(200)])
def test_a_file_that_is_no_tflite_model_is_refused(changed: Callable[..., Path], content: bytes) -> None:
    bundle = changed()
    (bundle / "float32.tflite").unlink()
    (bundle / "float32.tflite").write_bytes(content)
    manifest = read_manifest(bundle)
    files = {**manifest.files, "float32.tflite": describe_files(bundle)["float32.tflite"]}
    (bundle / MANIFEST).write_bytes(replace(manifest, files=files).to_json())
    with pytest.raises(
        BundleError, match=r"float32\.tflite: is (empty, not a|not a|a damaged or incomplete) TFLite file"
    ):
        Predictor.load(bundle)


def test_a_folder_without_a_bundle_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no bundle"):
        Predictor.load(tmp_path)


def test_the_channel_selects_the_model(predictor: Predictor, trained: Trained) -> None:
    loaded = Predictor.from_registry(str(trained.registry))
    assert loaded.manifest == predictor.manifest
    assert loaded(jpeg("red")) == predictor(jpeg("red"))
    with pytest.raises(NotFoundError, match="there is no channel 'staging'"):
        Predictor.from_registry(str(trained.registry), "staging")
    with pytest.raises(NotFoundError, match="there is no model other"):
        Predictor.from_registry(str(trained.registry), model_id="other")


@pytest.mark.parametrize(("threshold", "label"), [(0.0, "first"), (0.6, "first"), (0.61, "unknown"), (1.0, "unknown")])
def test_a_prediction_below_the_threshold_is_unknown_and_keeps_its_score(threshold: float, label: str) -> None:
    from types import SimpleNamespace

    manifest: Any = SimpleNamespace(model_id="m", labels=("first", "second"), threshold=threshold, negative="")
    prediction = Predictor(manifest, None).prediction_from(np.array([0.6, 0.4], np.float64))  # type: ignore[arg-type]
    assert (prediction.label, prediction.score) == (label, 0.6)
    assert prediction.top == (("first", 0.6), ("second", 0.4))


def test_features_are_the_rows_that_training_stored(trained: Trained, predictor: Predictor) -> None:
    from train_job.store.feature_store import FeatureStore

    store = FeatureStore.open(str(trained.registry / "features"))
    (space,) = [space for space in store.spaces() if space.layer == "pool"]
    photo = min(trained.photos.rglob("*.jpg"))
    stored = np.empty((1, space.width), np.float16)
    assert store.read(space, [hashlib.sha256(photo.read_bytes()).hexdigest()], stored) == []
    np.testing.assert_allclose(predictor.features(photo), stored[0], atol=0.01)


def test_a_file_without_the_output_has_no_features(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor._model, "_features", None)
    with pytest.raises(BundleError, match="does not return feature rows; train the model again"):
        predictor.features(jpeg("red", 1))


@pytest.fixture
def with_familiarity(trained: Trained, predictor: Predictor, tmp_path: Path) -> Path:
    """The trained bundle with a familiarity score fitted to every second photo, and its threshold to the others."""
    photos = sorted(trained.photos.rglob("*.jpg"))
    rows = np.stack([predictor.features(photo) for photo in photos]).astype(np.float16)
    probabilities = np.stack([predictor.probabilities(photo) for photo in photos[1::2]])
    bundle = Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))
    (bundle / FAMILIARITY).write_bytes(fit_familiarity(rows[::2], rows[1::2], probabilities, 0.0).to_bytes())
    manifest = replace(read_manifest(bundle), familiarity=FAMILIARITY, files=describe_files(bundle))
    (bundle / MANIFEST).write_bytes(manifest.to_json())
    return bundle


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_a_photo_unlike_the_training_photos_is_unknown(trained: Trained, with_familiarity: Path, variant: str) -> None:
    fitted = Predictor.load(with_familiarity, variant)
    known = fitted(min(trained.photos.rglob("*.jpg")))
    assert (known.label, known.reason) == ("blue", "")
    assert known.familiarity is not None
    assert "reason" not in known.to_dict()
    noise = fitted(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert (noise.label, noise.reason) == ("unknown", "unlike-training-photos")
    assert noise.familiarity is not None
    assert noise.familiarity < known.familiarity
    assert noise.to_dict()["reason"] == "unlike-training-photos"
    assert noise.with_threshold(0).label == "unknown"


def test_a_missing_or_damaged_familiarity_file_is_an_error(with_familiarity: Path) -> None:
    (with_familiarity / FAMILIARITY).write_bytes(b"{}\n")
    with pytest.raises(BundleError, match="does not have the manifest's sha256"):
        Predictor.load(with_familiarity)
    manifest = replace(read_manifest(with_familiarity), files=describe_files(with_familiarity))
    (with_familiarity / MANIFEST).write_bytes(manifest.to_json())
    with pytest.raises(BundleError, match="the familiarity score cannot be read"):
        Predictor.load(with_familiarity)


def test_the_negative_class_is_unknown_with_its_reason(changed: Callable[..., Path]) -> None:
    predicted = Predictor.load(changed(negative="red"))(jpeg("red", 50))
    assert (predicted.label, predicted.reason, predicted.top[0][0]) == ("unknown", "none-of-these", "red")
    assert predicted.with_threshold(0).label == "unknown"


@pytest.mark.parametrize(("threshold", "label", "reason"), [(0.5, "red", ""), (0.999999, "unknown", "unsure")])
def test_another_threshold_changes_label_and_reason(threshold: float, label: str, reason: str) -> None:
    predicted = Prediction("one", "unknown", 0.75, (("red", 0.75), ("blue", 0.25)), "unsure").with_threshold(threshold)
    assert (predicted.label, predicted.reason) == (label, reason)
