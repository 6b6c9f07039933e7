"""Unusual, damaged and hostile files: decoded safely or rejected, quarantined in training, and predicted correctly."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from transferlite import Predictor
from transferlite.cli.main import run

pytestmark = pytest.mark.photos

MAX_MEMORY = 600 * 2**20
REJECTED_BY_US = {"made-here/bomb_12000x12000_rgb.png", "pillow/10ct_32bit_128.tiff"}
"""Files that Pillow decodes, and the manifest with it: too many pixels, and float samples from -3.1 to 3.1."""
DECODED_BY_US = {"pillow/png_decompression_dos.png", "pillow/unknown_compression_method.png"}
"""Files that Pillow rejects for their metadata alone."""

DECODE_ALL = """
import json, sys
from pathlib import Path
from transferlite.errors import PhotoError
from transferlite.images.decoder import InputSpec, decode
from train_job.data.photo_facts import decode_with_facts
from train_job.pipeline.run_json import peak_memory

codes = {}
for name in json.load(sys.stdin):
    data = Path(sys.argv[1], name).read_bytes()
    for function in (decode, decode_with_facts):
        try:
            function(data, InputSpec(224, 224))
            code = ""
        except PhotoError as error:
            code = error.code
        codes.setdefault(name, []).append(code)
json.dump({"codes": codes, "memory": peak_memory()}, sys.stdout)
"""


def manifest(photo_sets: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((photo_sets / "hard_inputs" / "MANIFEST.csv").read_text())))


def test_every_hard_file_is_decoded_or_rejected_as_expected_in_little_memory(photo_sets: Path) -> None:
    rows = manifest(photo_sets)
    done = subprocess.run(
        [sys.executable, "-c", DECODE_ALL, str(photo_sets / "hard_inputs")],
        input=json.dumps([row["file"] for row in rows]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["memory"] < MAX_MEMORY
    assert len(result["codes"]) == len(rows) == 209
    by_pillow = {row["file"] for row in rows if row["decodable"] == "yes"}
    decoded = {name for name, (code, _) in result["codes"].items() if not code}
    assert (by_pillow - decoded, decoded - by_pillow) == (REJECTED_BY_US, DECODED_BY_US)
    for code, in_training in result["codes"].values():
        assert in_training == code or (code, in_training) == ("", "too-small")


# -- in training ------------------------------------------------------------------------------------------------------

BAD = {
    "pillow/truncated_jpeg.jpg": "truncated",
    "pillow/truncated_image.png": "truncated",
    "pillow/broken.png": "unreadable",
    "pillow/broken_data_stream.png": "unreadable",
    "pillow/decompression_bomb.gif": "too-large",
    "pillow/decompression_bomb.ico": "too-large",
    "pillow/hopper_unknown_pixel_mode.tif": "unsupported-format",
    "pillow/tRNS_null_1x1.png": "too-small",
    "pillow/zero_width.gif": "unreadable",
    "pillow/crash-2020-10-test.tif": "unreadable",
    "pillow/timeout-6646305047838720": "truncated",
    "pillow/bmp_b_shortfile.bmp": "truncated",
    "made-here/cat_trunc50.jpg": "truncated",
    "made-here/cat_header_only.jpg": "truncated",
    "made-here/dog_trunc95.jpg": "truncated",
    "made-here/dog_bitflips.jpg": "unreadable",
    "made-here/dog_4px_high.png": "too-small",
    "made-here/1x1.png": "too-small",
    "made-here/zero_byte.jpg": "empty",
    "made-here/html_404.jpg": "not-image",
    "made-here/text.png": "not-image",
    "made-here/bomb_30000x30000_1bit.png": "too-large",
    "made-here/bomb_12000x12000_rgb.png": "too-large",
    "made-here/bomb_declared_2e9x2e9.png": "too-large",
}
ODD = {
    "pillow/pil_sample_cmyk.jpg": "cmyk",
    "pillow/iss634.gif": "animated",
    "pillow/16bit.cropped.tif": "16-bit",
    "pillow/test.colors.gif": "palette",
    "pillow/hopper_orientation_6.jpg": "exif-rotated",
    "made-here/noise.png": "",
}
"""Usable files, with their note. None is made from the two photos that the model predicts afterwards."""


@dataclass(frozen=True)
class MixedDataset:
    """The 200 cats and dogs with 30 hard files, 5 rows of missing files, 3 conflicts and 4 duplicates."""

    images: Path
    labels: Path
    quarantined: Counter[tuple[str, str]]

    @property
    def words(self) -> list[str]:
        return ["--labels", str(self.labels), "--images", str(self.images)]


@pytest.fixture(scope="session")
def mixed(photo_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> MixedDataset:
    root = tmp_path_factory.mktemp("mixed")
    images = root / "images"
    shutil.copytree(photo_sets / "catsdogs" / "train_img", images, copy_function=shutil.copyfile)
    images.chmod(0o755)
    text = (photo_sets / "catsdogs" / "label-train.csv").read_text()
    rows = [(row["File Name"], row["Label"]) for row in csv.DictReader(io.StringIO(text))]
    cats, dogs = ([name for name, label in rows if label == wanted] for wanted in ("cat", "dog"))
    found: Counter[tuple[str, str]] = Counter()
    for number, name in enumerate([*BAD, *ODD]):
        (images / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(photo_sets / "hard_inputs" / name, images / name)
        rows.append((name, ("cat", "dog")[number % 2]))
    found.update(BAD.items())
    rows += [(f"gone {number}.jpg", "cat") for number in range(5)]
    found.update((f"gone {number}.jpg", "missing") for number in range(5))
    for name in cats[:2]:  # a second row with another label; below, the same bytes with another name and label
        rows.append((name, "dog"))
        found[name, "conflicting-labels"] += 2
    shutil.copyfile(images / dogs[0], images / "a cat.jpg")
    rows.append(("a cat.jpg", "cat"))
    found.update([(dogs[0], "conflicting-labels"), ("a cat.jpg", "conflicting-labels")])
    rows += [(dogs[1], "dog"), (dogs[2], "dog")]
    found.update([(dogs[1], "repeated-row"), (dogs[2], "repeated-row")])
    for number, name in enumerate(cats[2:4]):
        shutil.copyfile(images / name, images / f"copy {number}.jpg")
        rows.append((f"copy {number}.jpg", "cat"))
        found[f"copy {number}.jpg", "duplicate"] += 1
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("File Name", "Label"), *rows])
    return MixedDataset(images, root / "labels.csv", found)


def quarantined(path: Path, images: Path) -> Counter[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(path.read_text()))
    return Counter((Path(row["uri"]).relative_to(images).as_posix(), row["code"]) for row in rows)


def test_check_finds_exactly_the_bad_files(mixed: MixedDataset, tmp_path: Path) -> None:
    assert run(["check", *mixed.words, "--out", str(tmp_path)]) == 0
    assert quarantined(tmp_path / "quarantine.csv", mixed.images) == mixed.quarantined
    notes = quarantined(tmp_path / "notes.csv", mixed.images)
    assert {(name, code) for name, code in ODD.items() if code} <= notes.keys()
    assert run(["check", *mixed.words, "--out", str(tmp_path), "--fail-over", "5%"]) == 2


@pytest.fixture(scope="session")
def pets(mixed: MixedDataset, photo_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bundle and manifest of a model trained on the mixed photos with default options."""
    from train_job.data.split import SplitShares
    from train_job.options import TrainOptions
    from train_job.pipeline.train_job import train
    from train_job.progress import Reporter

    registry = tmp_path_factory.mktemp("pets")
    tests = str(photo_sets / "catsdogs" / "test_img")
    options = TrainOptions(
        images=str(mixed.images),
        labels=str(mixed.labels),
        test_images=tests,
        registry=str(registry),
        split=SplitShares(100, 0, 0),
    )
    result = train(options, Reporter())
    return registry / "models" / result.manifest.model_id, result.manifest


def test_training_on_it_succeeds_with_the_usual_accuracy(mixed: MixedDataset, pets: Any) -> None:
    bundle, trained = pets
    assert quarantined(bundle / "training" / "quarantine.csv", mixed.images) == mixed.quarantined
    assert trained.metrics["train"]["photos"] == 200 + len(ODD) - 3
    assert trained.metrics["test"]["accuracy"] >= 0.97


def test_every_version_of_a_photo_is_predicted_like_the_photo(pets: Any, photo_sets: Path) -> None:
    predictor = Predictor.load(pets[0])
    label_of = {row["file"]: row["label"] for row in manifest(photo_sets) if row["decodable"] == "yes" and row["label"]}
    predictions = {name: predictor(photo_sets / "hard_inputs" / name) for name in label_of}
    assert len(predictions) > 60
    assert {name: found for name, found in predictions.items() if found.label != label_of[name]} == {}
