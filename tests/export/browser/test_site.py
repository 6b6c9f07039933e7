"""The web page in a real browser, with LiteRT.js from npm, compared with the predictor."""

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.runtimes.web_page import WebPage, open_page
from export.browser import site as site_module
from export.browser.site import WEB_FILES, write_site
from tests.conftest import Trained
from tests.pictures import jpeg
from train_job.evaluation.fit_familiarity import fit_familiarity
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import InputError, UnavailableError
from transferlite.images.decoder import decode, resize_to
from transferlite.images.input_spec import InputSpec
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.manifest import MANIFEST

FILES = {
    *(
        "index.html",
        "page.css",
        "page.js",
        "photo.js",
        "classifier.js",
        "familiarity.js",
        "icon.svg",
        "model.tflite",
        "model.json",
    ),
    *("litert/core.js", "litert/core.json", "litert/wasm-utils.js"),
    *(f"litert/wasm/litert_wasm_{kind}.{end}" for kind in ("internal", "compat_internal") for end in ("js", "wasm")),
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder ``node_modules`` with LiteRT.js, from npm."""
    try:
        with site_module.downloaded_packages() as downloaded:
            return Path(shutil.copytree(downloaded, tmp_path_factory.mktemp("npm") / "node_modules"))
    except (InputError, UnavailableError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["float32", "int8"])
def page(
    request: pytest.FixtureRequest, trained: Trained, modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WebPage, Predictor]]:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no chromium on this machine")
    folder = tmp_path_factory.mktemp("site")
    assert set(write_site(trained.bundle, folder, request.param, modules)) == FILES
    with open_page(folder) as opened_page:
        yield opened_page, Predictor.load(trained.bundle, request.param)


@pytest.mark.enable_socket
def test_the_page_shows_the_predictors_predictions(page: tuple[WebPage, Predictor], tmp_path: Path) -> None:
    web, predictor = page
    for number, colour in enumerate(("blue", "red", "blue")):
        photo = tmp_path / f"{number}.jpg"
        photo.write_bytes(jpeg(colour, 70 + number, (90, 61)))
        web.page.set_input_files("#file", str(photo))
        web.page.wait_for_selector(f"#answer h2:text-is('{colour}')")
        shown = web.page.inner_text("#answer .row:first-of-type span:last-child")
        assert float(shown.removesuffix("%")) == pytest.approx(100 * predictor(photo).score, abs=1)
    web.page.locator("#answer .row span:last-child").first.evaluate("(span) => { span.textContent = '100.0%'; }")
    fits = "(spans) => spans.every((span) => span.scrollWidth <= span.clientWidth && span.clientHeight < 40)"
    assert web.page.locator("#answer .row span").evaluate_all(fits)
    assert web.errors == []
    origin = web.url.rpartition("/")[0]
    assert {url for url in web.requests if not url.removeprefix("blob:").startswith(origin)} == set()
    assert any(url.endswith("model.tflite") for url in web.requests)


@pytest.mark.enable_socket
def test_the_page_computes_the_predictors_probabilities(page: tuple[WebPage, Predictor]) -> None:
    web, predictor = page
    random = np.random.default_rng(0)
    for _ in range(5):
        pixels = random.integers(0, 256, (64, 64, 3), np.uint8)
        tolerance = predictor.resolution * 8 or 1e-3
        np.testing.assert_allclose(web.probabilities(pixels), predictor.probabilities(pixels), atol=tolerance)


@pytest.mark.enable_socket
@pytest.mark.parametrize("shape", [(48, 64), (64, 64), (300, 500), (7, 9), (64, 1000), (65, 63), (63, 90)])
def test_the_page_resizes_exactly_as_pillow(shape: tuple[int, int], page: tuple[WebPage, Predictor]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(page[0].resized(image, InputSpec(64, 80)), resize_to(image, InputSpec(64, 80)))


@pytest.mark.enable_socket
@pytest.mark.parametrize("shape", [(48, 64), (300, 500), (500, 301), (7, 9), (64, 1000)])
@pytest.mark.parametrize("resize", ["letterbox", "center-crop"])
def test_the_page_places_photos_exactly_as_the_decoder(
    resize: str, shape: tuple[int, int], page: tuple[WebPage, Predictor]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    spec = InputSpec(64, 80, resize)
    np.testing.assert_array_equal(page[0].resized(image, spec), resize_to(image, spec))


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(jpeg("green", 5, (120, 80))))
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        half = Image.new("RGB", (120, 80), "red")
        half.paste((0, 0, 255), (0, 0, 60, 80))
        half.save(file, "JPEG", quality=95, exif=exif)
    elif kind == "transparent":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(file, "PNG")
    elif kind == "grey":
        picture.convert("L").save(file, "PNG")
    elif kind == "palette":
        picture.convert("P").save(file, "GIF")
    else:
        picture.resize((3000, 2000)).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.enable_socket
@pytest.mark.parametrize("kind", ["turned", "transparent", "grey", "palette", "large"])
def test_the_page_decodes_photos_as_the_decoder(kind: str, page: tuple[WebPage, Predictor]) -> None:
    photo = encoded(kind)
    expected = decode(photo, InputSpec(64, 64)).astype(int)
    pixels = page[0].pixels(photo, 64, 64).astype(int)
    assert np.abs(expected - pixels).mean() < 1.5
    assert np.ptp(expected) > 50 or kind == "large"


@pytest.mark.enable_socket
def test_a_file_that_is_not_an_image_gives_an_error(page: tuple[WebPage, Predictor], tmp_path: Path) -> None:
    web, _ = page
    (tmp_path / "notes.jpg").write_text("no picture")
    web.page.set_input_files("#file", str(tmp_path / "notes.jpg"))
    web.page.wait_for_selector("#message:text('cannot read the file')")
    assert web.page.query_selector("#answer h2") is None
    assert web.errors == []


def test_predictions_below_the_threshold_are_unknown(trained: Trained, modules: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    bundle = Path(shutil.copytree(trained.bundle, tmp_path / "bundle"))
    (bundle / MANIFEST).write_bytes(replace(read_manifest(bundle), threshold=0.75).to_json())
    write_site(bundle, tmp_path / "site", "int8", modules)
    model_json = json.loads((tmp_path / "site" / "model.json").read_text(encoding="utf-8"))
    assert model_json["threshold"] == 0.75
    assert model_json["labels"] == ["blue", "red"]
    assert (model_json["scale"], model_json["height"]) == (Predictor.load(bundle, "int8").resolution, 64)
    script = f"""
import {{ Classifier }} from "{tmp_path}/site/classifier_without_litert.mjs";
const classifier = new Classifier({json.dumps(model_json)}, null);
for (const scores of [[0.7, 0.3], [0.2, 0.8]]) {{
  classifier.run = async () => ({{ probabilities: scores }});
  console.log((await classifier.predict(null)).label);
}}"""
    source = (tmp_path / "site" / "classifier.js").read_text()
    (tmp_path / "site" / "classifier_without_litert.mjs").write_text(
        source.replace("import { Tensor", "// import { Tensor").replace("./familiarity.js", "./familiarity.mjs")
    )
    shutil.copyfile(tmp_path / "site" / "familiarity.js", tmp_path / "site" / "familiarity.mjs")
    assert run_in_node(script).split() == ["unknown", "red"]


def run_in_node(script: str) -> str:
    if (node := shutil.which("node")) is None:
        pytest.skip("no node on this machine")
    command = [node, "--input-type=module", "-e", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_page_scores_familiarity_as_the_predictor_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    train, new = random.random((50, 24)).astype(np.float16), random.random((4, 24)).astype(np.float32)
    probabilities = random.dirichlet(np.ones(3), 20).astype(np.float32)
    fitted = fit_familiarity(train, train[:20], probabilities, 0.1)
    (tmp_path / "familiarity.bin").write_bytes(fitted.to_bytes())
    shutil.copyfile(WEB_FILES / "familiarity.js", tmp_path / "familiarity.mjs")
    script = f"""
import {{ readFileSync }} from "node:fs";
import {{ parse, score }} from "{tmp_path}/familiarity.mjs";
const bytes = readFileSync("{tmp_path}/familiarity.bin");
const fitted = parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const rows = {json.dumps(new.tolist())}, probabilities = {json.dumps(probabilities[:4].tolist())};
console.log(JSON.stringify(rows.map((row, index) => score(fitted, row, probabilities[index]))));"""
    np.testing.assert_allclose(json.loads(run_in_node(script)), fitted.scores(new, probabilities[:4]), atol=1e-3)


def test_a_node_modules_folder_without_the_runtime_is_rejected(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "web", "--bundle", str(trained.bundle), "--dest", str(tmp_path / "site")]
    assert run([*words, "--litert", str(tmp_path)]) == 2
    assert "has no @litertjs/core/dist/index.js; npm install @litertjs/core@" in capsys.readouterr().err


def test_without_npm_the_error_says_what_to_do(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert run(["export", "web", "--bundle", str(trained.bundle), "--dest", str(tmp_path / "site")]) == 2
    assert "npm is not installed; install Node.js, or pass a node_modules folder to --litert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "reason"), [(0, "an archive with another sha256"), (1, "npm could not download it")]
)
def test_failed_and_wrong_downloads_are_rejected(
    status: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        folder = command[command.index("--pack-destination") + 1]
        (Path(folder) / "core.tgz").write_bytes(hashlib.sha256(b"another").digest())
        return subprocess.CompletedProcess(command, status, "core.tgz\n", "no network")

    monkeypatch.setattr("export.browser.site.shutil.which", lambda name: "/usr/bin/npm")
    monkeypatch.setattr("export.browser.site.subprocess.run", pack)
    with pytest.raises(UnavailableError, match=reason):
        site_module.copy_runtime(tmp_path)
