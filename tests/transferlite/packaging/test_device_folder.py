"""The folder of only what is imported answers as the whole install does."""

import hashlib
import json
import subprocess
import sys
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.conftest import Trained
from tests.installed import Install
from tests.pictures import jpeg
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import InputError, TransferLiteError
from transferlite.images.decoder import decode
from transferlite.packaging import device_folder

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF", "BMP", "ICO", "TGA", "HEIF")
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); "


@pytest.fixture(scope="module")
def folder(installed: Install, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an install of the wheel builds in an empty folder."""
    dest = tmp_path_factory.mktemp("packages") / "device"
    done = installed.run("package", "device", "--dest", dest)
    if "Connection" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip(f"no package index can be reached: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return dest


def alone(folder: Path, code: str, *arguments: object) -> str:
    """Run code with nothing on the path but the standard library and the folder; what it prints."""
    command = [sys.executable, "-I", "-S", "-c", START + code, str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_folder_alone_predicts_as_the_whole_install(
    folder: Path, trained: Trained, tmp_path: Path, variant: str
) -> None:
    photos = [tmp_path / f"{colour}.jpg" for colour in ("blue", "red")]
    for photo in photos:
        photo.write_bytes(jpeg(photo.stem, 33))
    words = ["predict", *photos, "--bundle", trained.bundle, "--variant", variant, "--json"]
    out = alone(folder, "from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))", *words)
    predictor = Predictor.load(trained.bundle, variant)
    expected = [{"image": str(photo), **predictor(photo).to_dict()} for photo in photos]
    for found, whole in zip(map(json.loads, out.splitlines()), expected, strict=True):
        assert found["score"] == pytest.approx(whole["score"], abs=1e-5)
        assert {**found, "score": 0, "top": 0} == {**whole, "score": 0, "top": 0}


def test_it_decodes_every_format_to_the_same_pixels(folder: Path, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()  # to encode; the folder decodes with pi-heif
    picture = Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 50, 3), np.uint8))
    files = {kind: BytesIO() for kind in FORMATS}
    for kind, file in files.items():
        picture.save(file, kind)
    files["LAB"] = BytesIO()  # Pillow's colour management
    Image.merge("LAB", picture.split()).save(files["LAB"], "TIFF")
    for kind, file in files.items():
        (tmp_path / kind).write_bytes(file.getvalue())
    code = (
        "import hashlib, pathlib; from transferlite.images.decoder import decode\n"
        "for path in map(pathlib.Path, sys.argv[1:]): print(hashlib.sha256(decode(path.read_bytes())).hexdigest())"
    )
    found = alone(folder, code, *(tmp_path / kind for kind in files)).split()
    assert found == [hashlib.sha256(decode(file.getvalue()).tobytes()).hexdigest() for file in files.values()]


def test_it_is_at_most_100_mib_and_holds_no_more_than_it_needs(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 100 * 2**20
    names = {package.name.lower().replace("_", "-") for package in distributions(path=[str(folder)])}
    assert names == {"transferlite", "numpy", "pillow", "pi-heif", "click", "ai-edge-litert"}
    assert not any((folder / name).exists() for name in ("train_job", "export", "inference_lambda", "bin"))


def test_its_bytecode_is_there_and_holds_whatever_the_files_times(folder: Path) -> None:
    sources = sorted(folder.rglob("*.py"))
    assert len(sources) > 300
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", source  # PEP 552: by hash, and not looked at


def test_nothing_of_the_runtime_is_missing_but_what_other_extras_bring(folder: Path) -> None:
    code = (
        "import pkgutil, importlib, transferlite\n"
        "for module in pkgutil.walk_packages(transferlite.__path__, 'transferlite.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except Exception as error: print(module.name, error)"
    )
    missing = alone(folder, code).splitlines()
    boto3 = "boto3 is not installed; install the extra: pip install 'transferlite[s3]'"
    assert f"transferlite.storage.s3_boto3 {boto3}" in missing
    assert all("is not installed; install the extra" in line for line in missing)


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert run(["package", "device", "--dest", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extras": ["edge", "egde"]}, "there is no extra egde"),
        ({"platform": "linux"}, "'linux' is no platform"),
        ({"python": "3.99"}, r"TransferLite does not run on Python 3\.99; name one of 3\.11, 3\.12"),
        ({"python": "new"}, "'new' is no version of Python"),
        ({"extras": ["edge-legacy"], "python": "3.12"}, "edge-legacy needs Python 3.11"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        device_folder.build(tmp_path / "new", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_wheel_that_there_is_not_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TransferLiteError, match="failed: ERROR: No matching distribution"):
        device_folder.build(tmp_path / "new", platform="manylinux_2_28_sparc")
    assert not list(tmp_path.iterdir())
