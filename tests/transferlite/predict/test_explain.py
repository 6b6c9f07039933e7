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

Answer = Callable[[NDArray[np.uint8]], list[float]]


class Fake:
    """A classifier whose answer is a known function of the pixels."""

    def __init__(self, answer: Answer, resolution: float = 0.0) -> None:
        self.answer = answer
        self.resolution = resolution
        self.asked = 0

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += 1
        answer = np.array(self.answer(image), np.float32)
        return np.round(answer / self.resolution) * np.float32(self.resolution) if self.resolution else answer


def predictor_of(fake: Fake, **changes: Any) -> Predictor:
    return Predictor(manifest_of("one", **{"input": InputSpec(64, 64), **changes}), cast(TFLiteClassifier, fake))


def amount_of_red(image: NDArray[np.uint8]) -> list[float]:
    """(blue, red): sure of red, up to 1.000, by the share of the picture that is red and not blurred away."""
    red = float((image[..., 0].astype(int) - image[..., 1] > 150).mean())
    odds = float(np.exp(min(400 * red, 25.0)))
    return [1 / (1 + odds), odds / (1 + odds)]


def picture(left: int, top: int, width: int = 300, height: int = 120, side: int = 24) -> Image.Image:
    """Grey with a red square whose corner is at ``left``, ``top``."""
    image = Image.new("RGB", (width, height), (90, 90, 90))
    image.paste((250, 20, 20), (left, top, left + side, top + side))
    return image


def png(image: Image.Image, orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def hottest(found: HeatMap, width: int, height: int) -> tuple[float, float]:
    """Where the heat's middle lies in the upright photo, in pixels."""
    y, x = np.nonzero(found.heat >= 0.9 * found.heat.max())
    return (x.mean() + 0.5) / found.heat.shape[1] * width, (y.mean() + 0.5) / found.heat.shape[0] * height


@pytest.mark.parametrize(("left", "top"), [(20, 10), (250, 90), (140, 50), (276, 0), (0, 96)])
def test_heat_peaks_where_the_evidence_lies_in_a_photo_that_is_not_square(left: int, top: int) -> None:
    found = explain(predictor_of(Fake(amount_of_red)), png(picture(left, top)))
    x, y = hottest(found, 300, 120)
    assert found.label == "red"
    assert abs(x - left - 12) < 300 / 9
    assert abs(y - top - 12) < 120 / 9
    assert found.part is not None
    assert found.part[0] <= (left + 12) / 300 <= found.part[2]
    assert found.part[1] <= (top + 12) / 120 <= found.part[3]
    assert found.covered < found.score


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_has_its_heat_where_a_viewer_sees_the_evidence(orientation: int) -> None:
    upright = decode(png(picture(250, 10), orientation))
    y, x = np.nonzero(upright[..., 0] == 250)
    found = explain(predictor_of(Fake(amount_of_red)), png(picture(250, 10), orientation))
    hot_x, hot_y = hottest(found, upright.shape[1], upright.shape[0])
    assert abs(hot_x - x.mean()) < upright.shape[1] / 9
    assert abs(hot_y - y.mean()) < upright.shape[0] / 9
    drawn = np.asarray(overlay(png(picture(250, 10), orientation), found)).astype(int)
    assert drawn.shape == upright.shape
    changed = np.abs(drawn - upright).sum(2)
    assert changed[int(y.mean()), int(x.mean())] > 100
    assert changed[-int(y.mean()) - 1, -int(x.mean()) - 1] == 0


def test_an_answer_that_is_sure_whatever_is_covered_still_has_its_heat() -> None:
    def sure(image: NDArray[np.uint8]) -> list[float]:
        others = 1e-8 * float(np.exp(-40 * (image[..., 0] > 200).mean()))
        return [others / 2, others / 2, 1.0]

    found = explain(predictor_of(Fake(sure), labels=("blue", "green", "red")), png(picture(20, 10, side=60)))
    assert (found.score, found.covered) == (1.0, 1.0)
    assert found.heat.max() > 0.1
    assert hottest(found, 300, 120)[0] < 100


def test_the_cost_is_bounded_and_the_score_is_that_of_a_prediction() -> None:
    fake = Fake(amount_of_red)
    predictor = predictor_of(fake)
    found = explain(predictor, png(picture(20, 10)))
    assert fake.asked == 82
    assert found.score == predictor(png(picture(20, 10))).score
    assert found.heat.shape == (64, 64)
    assert found.heat.dtype == np.float32


def test_another_label_than_the_answer_is_explained_when_asked_for() -> None:
    predictor = predictor_of(Fake(amount_of_red))
    red, blue = (explain(predictor, png(picture(20, 10)), label) for label in ("red", "blue"))
    assert np.allclose(red.heat, -blue.heat, atol=1e-4)
    assert (blue.label, blue.part) == ("blue", None)
    assert blue.covered == blue.score < 0.01


def test_a_label_that_the_model_does_not_have_is_an_error_that_names_those_it_has() -> None:
    with pytest.raises(InputError, match="no label 'cat'; it has: blue, red"):
        explain(predictor_of(Fake(amount_of_red)), png(picture(20, 10)), "cat")


@pytest.mark.parametrize("answer", [[0.3, 0.7], [0.0, 1.0], [1.0, 0.0]])
def test_a_photo_of_which_no_part_matters_keeps_its_colours(answer: list[float]) -> None:
    found = explain(predictor_of(Fake(lambda _: answer)), png(picture(20, 10)))
    assert not found.heat.any()
    assert (found.part, found.covered) == (None, found.score)
    assert np.array_equal(np.asarray(overlay(png(picture(20, 10)), found)), np.asarray(picture(20, 10)))


def test_a_model_of_one_label_is_explained_by_nothing() -> None:
    found = explain(predictor_of(Fake(lambda _: [1.0]), labels=("red",)), png(picture(20, 10)))
    assert not found.heat.any()


def test_steps_of_an_integer_model_are_no_evidence_beyond_themselves() -> None:
    found = explain(predictor_of(Fake(amount_of_red, resolution=1 / 256)), png(picture(140, 50)))
    assert np.isfinite(found.heat).all()
    assert found.heat.max() < np.log(512) * 2
    assert abs(hottest(found, 300, 120)[0] - 152) < 300 / 9


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 48), (33, 97)])
@pytest.mark.parametrize("grid", [2, 3, 9])
def test_every_pixel_is_covered_whatever_the_input_s_size(height: int, width: int, grid: int) -> None:
    predictor = predictor_of(Fake(amount_of_red), input=InputSpec(height, width))
    found = explain(predictor, np.asarray(picture(20, 10)), grid=grid)
    assert found.heat.shape == (height, width)
    assert np.isfinite(found.heat).all()


def test_one_window_is_no_grid() -> None:
    with pytest.raises(InputError, match="says nothing of where"):
        explain(predictor_of(Fake(amount_of_red)), png(picture(20, 10)), grid=1)


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((3000, 1500), (1024, 512)), ((400, 1600), (256, 1024)), ((7, 5), (7, 5)), ((2000, 1), (1024, 1))],
)
def test_an_overlay_keeps_the_photo_s_shape_within_its_bound(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    found = HeatMap("one", "red", 1.0, np.ones((64, 64), np.float32), None, 1.0)
    assert overlay(np.full((size[1], size[0], 3), 99, np.uint8), found).size == drawn


def test_a_photo_that_cannot_be_decoded_is_a_photo_error() -> None:
    with pytest.raises(PhotoError):
        explain(predictor_of(Fake(amount_of_red)), b"no photo")


# -- the command -----------------------------------------------------------------------------------------------------

Out = pytest.CaptureFixture[str]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "a red one.jpg").write_bytes(jpeg("red", 50))
    return str(tmp_path / "a red one.jpg")


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_command_writes_the_overlay_and_says_what_it_found(
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
    found = json.loads(capsys.readouterr().out)
    assert [found[name] for name in ("image", "label", "width", "height", "out")] == [image, "red", 64, 48, out]
    assert found["score"] < 0.5
    assert found["part"] is None or found["covered_score"] > 0
    assert read_uri(out)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photo}", "--label", "cat"], "the model has no label 'cat'"),
        (["{photo}", "--out", "{photo}"], "would replace the photo"),
        (["{folder}"], "is a folder where a file is needed"),
        (["{folder}/none.jpg"], "none.jpg: does not exist"),
        (["{folder}/bad.jpg"], 'bad.jpg: not an image (starts with "no photo")'),
    ],
)
def test_what_the_user_can_mend_ends_with_status_2_and_writes_nothing(
    trained: Trained, photo: str, tmp_path: Path, capsys: Out, words: list[str], message: str
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    filled = [word.format(photo=photo, folder=tmp_path) for word in words]
    assert run(["explain", "--bundle", str(trained.bundle), "--out", str(tmp_path / "h.png"), *filled]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "h.png").exists()
    assert Path(photo).read_bytes() == jpeg("red", 50)


def test_one_model_is_asked_for(photo: str, capsys: Out) -> None:
    assert run(["explain", photo, "--out", "heat.png"]) == 2
    assert "Give one of --registry, --bundle or --model FILE.tflite" in capsys.readouterr().err


def test_a_layer_over_the_photo_is_the_overlay() -> None:
    photo = png(picture(200, 30))
    found = explain(predictor_of(Fake(amount_of_red)), photo)
    square = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize((128, 128)))
    laid = Image.fromarray(square).convert("RGBA")
    laid.alpha_composite(heat_layer(found))
    assert heat_layer(found).getchannel("A").getextrema() == (0, 191)
    assert np.abs(np.asarray(laid.convert("RGB"), int) - np.asarray(overlay(square, found))).max() <= 2


def test_it_gives_up_when_its_time_is_over() -> None:
    fake = Fake(amount_of_red)
    with pytest.raises(TimeLimitError, match="longer than 0 seconds"):
        explain(predictor_of(fake), png(picture(200, 30)), seconds=0)
    assert fake.asked == 1
