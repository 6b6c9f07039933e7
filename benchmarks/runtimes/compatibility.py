"""Compare the predictions of each variant in each runtime with our predictor's, on the same photos.

Each runtime but TensorFlow is installed with pip into an environment of its own. The table's cells give the number of
photos with our predictor's label for the same variant, and the largest difference of a probability.
"""

import itertools
import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.processes import print_table
from benchmarks.runtimes.environments import environment
from benchmarks.runtimes.predictor_side import __file__ as predictor_side
from benchmarks.runtimes.runtime_side import __file__ as side
from benchmarks.runtimes.web_page import WebPage, open_page
from export.browser.site import write_site
from export.tflite.op_versions import oldest_runtime, required_operations
from transferlite.images.decoder import decode
from transferlite.images.find_photos import find_photos
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import read_manifest

RUNTIMES = {
    "ai-edge-litert": ("ai-edge-litert", "ai-edge-litert>=2,<3"),
    "ai-edge-litert 2.0": ("ai-edge-litert", "ai-edge-litert~=2.0.2"),
    "tflite-runtime": ("tflite-runtime", "tflite-runtime==2.14.0", "numpy<2"),
    "tensorflow": ("tensorflow",),
    "mediapipe": ("mediapipe", "mediapipe>=1.2"),
}
"""Name of each runtime for ``runtime_side``, and the packages that pip installs; none if it is in this environment."""

OTHER_PYTHONS = {"ai-edge-litert": ("3.12", "3.13")}
"""Further Python versions to test a runtime in; they must be on PATH."""


@dataclass(frozen=True)
class Photos:
    """The photos with our predictor's predictions.

    Attributes:
        paths: files of the photos.
        pixels: the decoded photos, uint8 ``[N, H, W, 3]``.
        expected: our predictor's probabilities ``[N, C]`` by variant.
        labels: the bundle's C labels.
    """

    paths: list[str]
    pixels: NDArray[np.uint8]
    expected: dict[str, NDArray[np.float32]]
    labels: tuple[str, ...]

    def cell(self, variant: str, probabilities: NDArray[np.float32]) -> str:
        """Format a table cell, such as ``200/200, 3e-06``."""
        expected = self.expected[variant]
        same = int((probabilities.argmax(1) == expected.argmax(1)).sum())
        return f"{same}/{len(expected)}, {np.abs(probabilities - expected).max():.0e}"


def load_photos(bundle: Path, location: str) -> Photos:
    """Decode the photos, and predict them with each variant of our predictor."""
    loaded = {name: Predictor.load(bundle, name) for name in tflite_variants(bundle)}
    manifest = read_manifest(bundle)
    paths = list(find_photos(location))
    pixels = np.stack([decode(Path(path).read_bytes(), manifest.input) for path in paths])
    expected = {
        name: np.stack([predictor.probabilities(photo) for photo in pixels]) for name, predictor in loaded.items()
    }
    return Photos(paths, pixels, expected, manifest.labels)


def tflite_variants(bundle: Path) -> dict[str, Path]:
    """The bundle's TFLite files by variant."""
    return {path.stem: path for path in sorted(bundle.glob("*.tflite"))}


def run_runtime(python: Path, runtime: str, model: Path, source: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Run a runtime; returns its description and probabilities. Raises ClickException with its error if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "probabilities.npy"
        command = [str(python), side, runtime, str(model), str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(done.stderr.strip().splitlines()[-1][:200])
        return json.loads(done.stdout.splitlines()[-1]), np.load(target)


def _runtime_rows(bundle: Path, photos: Photos, folder: Path, only: str | None) -> Iterator[list[str]]:
    np.save(folder / "pixels.npy", photos.pixels)
    (folder / "paths.txt").write_text("\n".join(photos.paths))
    for index, (name, (runtime, *requirements)) in enumerate(RUNTIMES.items()):
        if only in (None, name):
            python = environment(folder / str(index), *requirements)
            yield _row(python, runtime, bundle, photos, folder / "pixels.npy", "")
            yield from other_rows(name, bundle, photos, folder)
            if runtime == "mediapipe":
                yield _row(python, runtime, bundle, photos, folder / "paths.txt", ", its own resizing")


def other_rows(name: str, bundle: Path, photos: Photos, folder: Path) -> Iterator[list[str]]:
    """A row for each of a runtime's :data:`OTHER_PYTHONS`, installed or not; ``folder`` holds the pixels."""
    runtime, *requirements = RUNTIMES[name]
    for version in OTHER_PYTHONS.get(name, ()):
        try:
            python = environment(folder / version, *requirements, version=version)
            yield _row(python, runtime, bundle, photos, folder / "pixels.npy", "")
        except click.ClickException as error:
            yield [name, version, "", *[f"not run: {error.message}"] * len(photos.expected)]


def predictor_row(command: str, bundle: Path, photos: Photos, folder: Path) -> list[str]:
    """A row for our predictor in the Python that ``command`` starts; ``folder`` is for files to exchange."""
    np.save(folder / "pixels.npy", photos.pixels)
    (folder / "paths.txt").write_text("\n".join(str(Path(path).resolve()) for path in photos.paths))
    info: dict[str, Any] = {"runtime": command, "python": "", "cpu": ""}
    cells = []
    for variant in photos.expected:
        try:
            info, probabilities = run_predictor(command, bundle, variant, folder)
            cell = photos.cell(variant, probabilities)
            cells.append(f"{cell}, test pictures {info['golden']:.0e}, pixels {info['pixels']}")
        except click.ClickException as error:
            cells.append(error.message)
    return [f"our predictor on {info['runtime']}", info["python"], info["cpu"], *cells]


def run_predictor(command: str, bundle: Path, variant: str, folder: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Run our predictor in another Python on the photos listed in ``folder``.

    Returns the description of its runtime, and its probabilities.

    Raises:
        ClickException: the Python does not exist (``not run: …``), or ends with an error (``no: …``).
    """
    target = folder / "probabilities.npy"
    arguments = (bundle.resolve(), variant, folder / "paths.txt", folder / "pixels.npy", target)
    try:
        full_command = [*shlex.split(command), predictor_side, *map(str, arguments)]
        done = subprocess.run(full_command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise click.ClickException(f"not run: {error.strerror}") from None
    if done.returncode:
        reason = done.stderr.strip() or f"status {done.returncode}"
        raise click.ClickException(f"no: {reason.splitlines()[-1][:200]}")
    return json.loads(done.stdout.splitlines()[-1]), np.load(target)


def _row(python: Path, runtime: str, bundle: Path, photos: Photos, source: Path, note: str) -> list[str]:
    info: dict[str, Any] = {"runtime": runtime, "python": "", "cpu": ""}
    cells = []
    for variant, path in tflite_variants(bundle).items():
        try:
            info, probabilities = run_runtime(python, runtime, path, source)
            cells.append(photos.cell(variant, probabilities) + wrong_labels(info.get("labels"), photos.labels))
        except click.ClickException as error:
            cells.append(f"no: {error.message}")
    return [info["runtime"] + note, info["python"], info["cpu"], *cells]


def wrong_labels(read: Sequence[str] | None, expected: Sequence[str]) -> str:
    """Note for a cell if a runtime read labels from the file that differ from the expected ones; otherwise empty."""
    return f", labels {', '.join(read)}" if read and list(read) != list(expected) else ""


def _browser_rows(bundle: Path, photos: Photos, folder: Path) -> Iterator[list[str]]:
    pages = {}
    for variant in tflite_variants(bundle):
        write_site(bundle, folder / variant, variant)
        with open_page(folder / variant) as page:
            version = page.page.context.browser.version if page.page.context.browser else ""
            pages[variant] = [_on_pixels(page, photos), _on_files(page, photos)]
    for index, note in enumerate(("", ", its own decoding")):
        cells = [photos.cell(variant, probabilities[index]) for variant, probabilities in pages.items()]
        yield [f"LiteRT.js 2.5.3 in Chromium {version}{note}", "", "wasm", *cells]


def _on_pixels(page: WebPage, photos: Photos) -> NDArray[np.float32]:
    return np.stack([page.probabilities(photo) for photo in photos.pixels])


def _on_files(page: WebPage, photos: Photos) -> NDArray[np.float32]:
    height, width = photos.pixels.shape[1:3]
    decoded = (page.pixels(Path(path).read_bytes(), height, width) for path in photos.paths)
    return np.stack([page.probabilities(pixels) for pixels in decoded])


def _operation_rows(bundle: Path) -> Iterator[list[str]]:
    for variant, path in tflite_variants(bundle).items():
        operations = required_operations(path)
        yield [variant, oldest_runtime(operations) or "unknown", ", ".join(map(str, operations))]


@click.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Folder of the model.")
@click.option("--photos", "location", required=True, help="Folder with photos.")
@click.option("--only", type=click.Choice([*RUNTIMES, "browser"]))
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="COMMAND",
    help="Test our predictor in this Python only, e.g. 'qemu-aarch64-static -L ROOT ROOT/usr/bin/python3'; repeatable.",
)
def main(bundle: Path, location: str, only: str | None, pythons: tuple[str, ...]) -> None:
    """Print the operations of each variant, and the agreement of each runtime with our predictor."""
    header = ("runtime", "Python", "CPU", *tflite_variants(bundle))
    command = "python -m benchmarks.runtimes.compatibility --bundle ... --photos ..."
    operations = ("variant", "oldest TensorFlow Lite", "operations and their versions")
    print_table(command, operations, _operation_rows(bundle))
    photos = load_photos(bundle, location)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if pythons:
            print_table(command, header, (predictor_row(python, bundle, photos, folder) for python in pythons))
            return
        rows = [_runtime_rows(bundle, photos, folder, only)] if only != "browser" else []
        rows += [_browser_rows(bundle, photos, folder)] if only in (None, "browser") else []
        print_table(command, header, itertools.chain.from_iterable(rows))


if __name__ == "__main__":
    main()
