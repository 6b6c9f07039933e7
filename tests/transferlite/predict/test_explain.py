import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tests.conftest import BUCKET, Trained
from tests.pictures import jpeg
from tests.transferlite.bundles import manifest_of
from transferlite.cli.main import run
from transferlite.errors import InputError, PhotoError, TimeLimitError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.explain import HeatMap, explain, heat_layer, overlay
from transferlite.predict.predictor import Predictor
from transferlite.storage.locations import read_uri

Probabilities = Callable[[NDArray[np.uint8]], list[float]]


class FakeModel:
    """A classifier whose probabilities are a known function of the pixels."""

    def __init__(self, probabilities: Probabilities, resolution: float = 0.0) -> None:
        self.probabilities = probabilities
        self.resolution = resolution
        self.calls = 0

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        exact = np.array(self.probabilities(image), np.float32)
        return np.round(exact / self.resolution) * np.float32(self.resolution) if self.resolution else exact


def predictor_of(fake: FakeModel, **changes: Any) -> Predictor:
    return Predictor(manifest_of("one", **{"input": InputSpec(64, 64), **changes}), cast(TFLiteClassifier, fake))


def amount_of_red(image: NDArray[np.uint8]) -> list[float]:
    """Probabilities (blue, red): red rises up to 1.000 with the share of pixels that are red and not blurred."""
    red = float((image[..., 0].astype(int) - image[..., 1] > 150).mean())
    odds = float(np.exp(min(400 * red, 25.0)))
    return [1 / (1 + odds), odds / (1 + odds)]


def grey_with_square(left: int, top: int, width: int = 300, height: int = 120, side: int = 24) -> Image.Image:
    """Grey image with a red square whose corner is at ``left``, ``top``."""
    image = Image.new("RGB", (width, height), (90, 90, 90))
    image.paste((250, 20, 20), (left, top, left + side, top + side))
    return image


def png(image: Image.Image, orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def hottest(heat_map: HeatMap, width: int, height: int) -> tuple[float, float]:
    """Centre of the hottest area in the upright photo, in pixels."""
    y, x = np.nonzero(heat_map.heat >= 0.9 * heat_map.heat.max())
    rows, columns = heat_map.heat.shape
    return (x.mean() + 0.5) / columns * width, (y.mean() + 0.5) / rows * height


@pytest.mark.parametrize(("left", "top"), [(20, 10), (250, 90), (140, 50), (276, 0), (0, 96)])
def test_heat_peaks_where_the_evidence_lies_in_a_photo_that_is_not_square(left: int, top: int) -> None:
    heat_map = explain(predictor_of(FakeModel(amount_of_red)), png(grey_with_square(left, top)))
    x, y = hottest(heat_map, 300, 120)
    assert heat_map.label == "red"
    assert abs(x - left - 12) < 300 / 9
    assert abs(y - top - 12) < 120 / 9
    assert heat_map.part is not None
    assert heat_map.part[0] <= (left + 12) / 300 <= heat_map.part[2]
    assert heat_map.part[1] <= (top + 12) / 120 <= heat_map.part[3]
    assert heat_map.covered_score < heat_map.score


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heat_follows_the_exif_orientation(orientation: int) -> None:
    upright = decode(png(grey_with_square(250, 10), orientation))
    y, x = np.nonzero(upright[..., 0] == 250)
    heat_map = explain(predictor_of(FakeModel(amount_of_red)), png(grey_with_square(250, 10), orientation))
    hot_x, hot_y = hottest(heat_map, upright.shape[1], upright.shape[0])
    assert abs(hot_x - x.mean()) < upright.shape[1] / 9
    assert abs(hot_y - y.mean()) < upright.shape[0] / 9
    drawn = np.asarray(overlay(png(grey_with_square(250, 10), orientation), heat_map)).astype(int)
    assert drawn.shape == upright.shape
    changed = np.abs(drawn - upright).sum(2)
    assert changed[int(y.mean()), int(x.mean())] > 100
    assert changed[-int(y.mean()) - 1, -int(x.mean()) - 1] == 0


def test_a_probability_that_stays_at_one_still_has_heat() -> None:
    def sure(image: NDArray[np.uint8]) -> list[float]:
        others = 1e-8 * float(np.exp(-40 * (image[..., 0] > 200).mean()))
        return [others / 2, others / 2, 1.0]

    heat_map = explain(
        predictor_of(FakeModel(sure), labels=("blue", "green", "red")), png(grey_with_square(20, 10, side=60))
    )
    assert (heat_map.score, heat_map.covered_score) == (1.0, 1.0)
    assert heat_map.heat.max() > 0.1
    assert hottest(heat_map, 300, 120)[0] < 100


def test_82_forward_passes_and_the_score_of_a_prediction() -> None:
    fake = FakeModel(amount_of_red)
    predictor = predictor_of(fake)
    heat_map = explain(predictor, png(grey_with_square(20, 10)))
    assert fake.calls == 82
    assert heat_map.score == predictor(png(grey_with_square(20, 10))).score
    assert heat_map.heat.shape == (64, 64)
    assert heat_map.heat.dtype == np.float32


def test_another_label_than_the_predicted_is_explained() -> None:
    predictor = predictor_of(FakeModel(amount_of_red))
    red, blue = (explain(predictor, png(grey_with_square(20, 10)), label) for label in ("red", "blue"))
    assert np.allclose(red.heat, -blue.heat, atol=1e-4)
    assert (blue.label, blue.part) == ("blue", None)
    assert blue.covered_score == blue.score < 0.01


def test_an_unknown_label_is_an_error_that_lists_the_labels() -> None:
    with pytest.raises(InputError, match="no label 'cat'; its labels: blue, red"):
        explain(predictor_of(FakeModel(amount_of_red)), png(grey_with_square(20, 10)), "cat")


@pytest.mark.parametrize("constant", [[0.3, 0.7], [0.0, 1.0], [1.0, 0.0]])
def test_a_photo_without_heat_keeps_its_colours(constant: list[float]) -> None:
    heat_map = explain(predictor_of(FakeModel(lambda _: constant)), png(grey_with_square(20, 10)))
    assert not heat_map.heat.any()
    assert (heat_map.part, heat_map.covered_score) == (None, heat_map.score)
    assert np.array_equal(
        np.asarray(overlay(png(grey_with_square(20, 10)), heat_map)), np.asarray(grey_with_square(20, 10))
    )


def test_a_model_with_one_label_has_no_heat() -> None:
    heat_map = explain(predictor_of(FakeModel(lambda _: [1.0]), labels=("red",)), png(grey_with_square(20, 10)))
    assert not heat_map.heat.any()


def test_rounding_of_an_int8_model_does_not_inflate_the_heat() -> None:
    heat_map = explain(predictor_of(FakeModel(amount_of_red, resolution=1 / 256)), png(grey_with_square(140, 50)))
    assert np.isfinite(heat_map.heat).all()
    assert heat_map.heat.max() < np.log(512) * 2
    assert abs(hottest(heat_map, 300, 120)[0] - 152) < 300 / 9


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 48), (33, 97)])
@pytest.mark.parametrize("grid", [2, 3, 9])
def test_every_pixel_is_covered_at_any_input_size(height: int, width: int, grid: int) -> None:
    predictor = predictor_of(FakeModel(amount_of_red), input=InputSpec(height, width))
    heat_map = explain(predictor, np.asarray(grey_with_square(20, 10)), grid=grid)
    assert heat_map.heat.shape == (height, width)
    assert np.isfinite(heat_map.heat).all()


def test_a_grid_of_one_window_is_refused() -> None:
    with pytest.raises(InputError, match="cannot locate anything"):
        explain(predictor_of(FakeModel(amount_of_red)), png(grey_with_square(20, 10)), grid=1)


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((3000, 1500), (1024, 512)), ((400, 1600), (256, 1024)), ((7, 5), (7, 5)), ((2000, 1), (1024, 1))],
)
def test_an_overlay_keeps_the_photo_s_shape_within_its_bound(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    heat_map = HeatMap("one", "red", 1.0, np.ones((64, 64), np.float32), None, 1.0)
    assert overlay(np.full((size[1], size[0], 3), 99, np.uint8), heat_map).size == drawn


def test_a_photo_that_cannot_be_decoded_is_a_photo_error() -> None:
    with pytest.raises(PhotoError):
        explain(predictor_of(FakeModel(amount_of_red)), b"no photo")


# -- the command -----------------------------------------------------------------------------------------------------

Out = pytest.CaptureFixture[str]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "a red one.jpg").write_bytes(jpeg("red", 50))
    return str(tmp_path / "a red one.jpg")


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_command_writes_the_overlay_and_prints_the_label(
    trained: Trained, photo: str, tmp_path: Path, capsys: Out, variant: str
) -> None:
    out = tmp_path / "new" / "heat.png"
    assert run(["explain", photo, "--bundle", str(trained.bundle), "--variant", variant, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{photo}: red ")
    assert text.endswith(f"wrote {out}\n")
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", (64, 48))


def test_the_command_works_on_s3(trained: Trained, bucket: Any, capsys: Out) -> None:
    bucket.put_object(Bucket=BUCKET, Key="new/cat+1 ü.jpg", Body=jpeg("blue", 50))
    image, out = f"s3://{BUCKET}/new/cat+1 ü.jpg", f"s3://{BUCKET}/heat/cat 1.png"
    assert run(["explain", image, "--registry", str(trained.registry), "--out", out, "--label", "red", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [result[name] for name in ("image", "label", "width", "height", "out")] == [image, "red", 64, 48, out]
    assert result["score"] < 0.5
    assert result["part"] is None or result["covered_score"] > 0
    assert read_uri(out)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photo}", "--label", "cat"], "the model has no label 'cat'"),
        (["{photo}", "--out", "{photo}"], "would overwrite the photo"),
        (["{folder}"], "is a folder where a file is needed"),
        (["{folder}/none.jpg"], "none.jpg: does not exist"),
        (["{folder}/bad.jpg"], 'bad.jpg: not an image (starts with "no photo")'),
    ],
)
def test_input_errors_end_with_status_2_and_write_nothing(
    trained: Trained, photo: str, tmp_path: Path, capsys: Out, words: list[str], message: str
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    filled = [word.format(photo=photo, folder=tmp_path) for word in words]
    assert run(["explain", "--bundle", str(trained.bundle), "--out", str(tmp_path / "h.png"), *filled]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "h.png").exists()
    assert Path(photo).read_bytes() == jpeg("red", 50)


def test_a_model_is_required(photo: str, capsys: Out) -> None:
    assert run(["explain", photo, "--out", "heat.png"]) == 2
    assert "Give one of --registry, --bundle or --model FILE.tflite" in capsys.readouterr().err


def test_a_layer_over_the_photo_is_the_overlay() -> None:
    photo = png(grey_with_square(200, 30))
    heat_map = explain(predictor_of(FakeModel(amount_of_red)), photo)
    square = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize((128, 128)))
    stretched = Image.fromarray(square).convert("RGBA")
    stretched.alpha_composite(heat_layer(heat_map))
    assert heat_layer(heat_map).getchannel("A").getextrema() == (0, 191)
    assert np.abs(np.asarray(stretched.convert("RGB"), int) - np.asarray(overlay(square, heat_map))).max() <= 2


def test_the_time_limit_stops_the_forward_passes() -> None:
    fake = FakeModel(amount_of_red)
    with pytest.raises(TimeLimitError, match="longer than 0 seconds"):
        explain(predictor_of(fake), png(grey_with_square(200, 30)), seconds=0)
    assert fake.calls == 1
