import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.export.small import LABELS, SPEC, Exported, pictures
from tests.pictures import COLOURS, jpeg
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec

MAX_DIFFERENCE = 2
"""Maximum difference of a value of 0 to 255 from Pillow's: both round after each of two passes."""


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_saved_model_accepts_any_batch_size(exported: Exported, count: int) -> None:
    from export.gate.runtimes import LoadedSavedModel

    photos = pictures(count)
    outputs = LoadedSavedModel(exported.saved_model).predict(np.stack(photos))
    expected = np.asarray(exported.keras(np.stack(photos).astype(np.float32), training=False))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


LOAD = """
import base64, json, sys
for name in ("keras", "tf_keras", "tensorflow.keras"):
    sys.modules[name] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
signatures = loaded.signatures
def described(signature):
    inputs = signature.structured_input_signature[1].items()
    specs = {key: [value.shape.as_list(), value.dtype.name] for key, value in inputs}
    return [specs, list(signature.structured_outputs)]
labels = open(loaded.labels.asset_path.numpy(), encoding="utf-8").read().splitlines()
photos = np.load(sys.argv[2])
encoded = [base64.b64decode(photo["b64"]) for photo in json.load(open(sys.argv[3]))]
np.savez(
    sys.argv[4],
    default=signatures["serving_default"](image=tf.constant(photos))["probabilities"].numpy(),
    features=signatures["features"](image=tf.constant(photos))["features"].numpy(),
    encoded=signatures["serve_encoded"](image_bytes=tf.constant(encoded))["probabilities"].numpy(),
)
print(json.dumps({"signatures": {name: described(value) for name, value in signatures.items()}, "labels": labels}))
"""


def test_the_saved_model_works_without_keras_and_each_signature_returns_its_output(
    exported: Exported, tmp_path: Path
) -> None:
    files = [jpeg(colour, 50, size) for colour, size in zip(COLOURS, ((90, 70), (40, 32), (33, 64)), strict=True)]
    photos = np.stack([decode(file, SPEC) for file in files])
    np.save(tmp_path / "photos.npy", photos)
    (tmp_path / "encoded.json").write_text(json.dumps([{"b64": base64.b64encode(file).decode()} for file in files]))
    paths = [exported.saved_model / "1", *(tmp_path / name for name in ("photos.npy", "encoded.json", "outputs.npz"))]
    command = [sys.executable, "-c", LOAD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reply = json.loads(done.stdout)
    image = {"image": [[None, 32, 40, 3], "uint8"]}
    assert reply["signatures"] == {
        "serving_default": [image, ["probabilities"]],
        "serve_encoded": [{"image_bytes": [[None], "string"]}, ["probabilities"]],
        "features": [image, ["features"]],
    }
    assert reply["labels"] == list(LABELS)
    outputs = np.load(tmp_path / "outputs.npz")
    expected = np.asarray(exported.keras(photos.astype(np.float32), training=False))
    np.testing.assert_allclose(outputs["default"], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["encoded"], expected, atol=0.01)
    np.testing.assert_allclose(outputs["features"], exported.feature_model(photos.astype(np.float32)), atol=1e-5)


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def turned(orientation: int, order: str) -> bytes:
    """JPEG with an EXIF orientation; ``order`` is its byte order, II or MM."""

    def number(value: int, length: int) -> bytes:
        return value.to_bytes(length, "little" if order == "II" else "big")

    entry = number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + b"\0\0"
    block = order.encode() + number(42, 2) + number(8, 4) + number(1, 2) + entry + number(0, 4)
    return file_of(picture(90, 60), "JPEG", exif=b"Exif\0\0" + block)


def transparent(mode: str) -> Image.Image:
    layered = picture(70, 90).convert(mode)
    layered.putalpha(Image.linear_gradient("L").resize(layered.size))
    return layered


def sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


FILES: dict[str, Callable[[], bytes]] = {
    "a JPEG": lambda: file_of(picture(90, 60), "JPEG"),
    "a small JPEG": lambda: file_of(picture(20, 13), "JPEG"),
    "a JPEG of the model's size": lambda: file_of(picture(40, 32), "JPEG", quality=95),
    "a JPEG scaled by two while decoding": lambda: file_of(picture(801, 640), "JPEG"),
    "a JPEG scaled by eight": lambda: file_of(picture(999, 777), "JPEG"),
    "a grey JPEG": lambda: file_of(picture(90, 60).convert("L"), "JPEG"),
    "CMYK": lambda: file_of(picture(90, 60).convert("CMYK"), "JPEG"),
    "progressive": lambda: file_of(picture(90, 60), "JPEG", progressive=True),
    "a PNG": lambda: file_of(picture(90, 60), "PNG"),
    "a transparent PNG": lambda: file_of(transparent("RGBA"), "PNG"),
    "grey and transparent": lambda: file_of(transparent("LA"), "PNG"),
    "a palette": lambda: file_of(picture(90, 60).convert("P"), "PNG"),
    "a palette of 16": lambda: file_of(picture(90, 60).quantize(16), "PNG", bits=4),
    "a transparent palette colour": lambda: file_of(picture(90, 60).convert("P"), "PNG", transparency=3),
    "black and white": lambda: file_of(picture(90, 60).convert("1"), "PNG"),
    "16 bits": lambda: file_of(sixteen_bits(picture(90, 60)), "PNG"),
    **{f"EXIF {turn} {order}": partial(turned, turn, order) for turn in range(10) for order in ("II", "MM")},
    "a damaged EXIF block": lambda: file_of(picture(90, 60), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "a truncated EXIF block": lambda: file_of(picture(90, 60), "JPEG", exif=b"Exif\0\0MM"),
}


@pytest.fixture(scope="module")
def decoder() -> Any:
    import tensorflow as tf

    from export.saved_model.encoded_photos import decode_photos

    return tf.function(lambda data: decode_photos(data, SPEC), autograph=False)


def test_the_saved_model_decodes_photos_as_the_decoder(decoder: Any) -> None:
    import tensorflow as tf

    files = {name: make() for name, make in FILES.items()}
    images = decoder(tf.constant(list(files.values()))).numpy()
    for (name, file), pixels in zip(files.items(), images, strict=True):
        difference = np.abs(pixels.astype(int) - decode(file, SPEC))
        assert difference.max() <= MAX_DIFFERENCE, name
        assert difference.mean() < 0.3, name


@pytest.mark.parametrize("resize", ["letterbox", "center-crop"])
def test_the_saved_model_places_photos_as_the_decoder(resize: str) -> None:
    import tensorflow as tf

    from export.saved_model.encoded_photos import decode_photos

    spec = InputSpec(SPEC.height, SPEC.width, resize)
    shapes = [(90, 60), (60, 90), (200, 12), (12, 200), (401, 640)]
    files = [file_of(picture(*shape), "PNG") for shape in shapes] + [turned(6, "II")]
    images = tf.function(lambda data: decode_photos(data, spec), autograph=False)(tf.constant(files)).numpy()
    for file, pixels in zip(files, images, strict=True):
        difference = np.abs(pixels.astype(int) - decode(file, spec))
        assert difference.max() <= MAX_DIFFERENCE
        assert difference.mean() < 0.3


def test_a_file_that_is_not_a_photo_fails_the_request(decoder: Any) -> None:
    import tensorflow as tf

    for bad in (b"", b"%PDF-1.7", file_of(picture(90, 60), "JPEG")[:400]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder(tf.constant([file_of(picture(90, 60), "PNG"), bad]))


@pytest.mark.photos
def test_real_photos_are_decoded_within_half_a_step_on_average(photo_sets: Path) -> None:
    import tensorflow as tf

    from export.saved_model.encoded_photos import decode_photos

    spec = InputSpec(224, 224)
    files = [path.read_bytes() for path in sorted((photo_sets / "catsdogs" / "train_img").iterdir())[::5]]
    images = tf.function(lambda data: decode_photos(data, spec), autograph=False)(tf.constant(files)).numpy()
    differences = [np.abs(image.astype(int) - decode(file, spec)) for image, file in zip(images, files, strict=True)]
    assert max(difference.mean() for difference in differences) < 0.5
