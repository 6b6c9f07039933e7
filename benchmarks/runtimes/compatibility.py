"""What answers a bundle's files alike: each variant on each runtime, beside our predictor, on the same photos.

Every runtime but TensorFlow, which is here, is installed by pip into an environment of its own. The cells count the
photos with our predictor's label, of the same variant, and give the largest difference of a probability.
"""

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

from benchmarks.runtimes.environments import environment
from benchmarks.runtimes.predictor_side import __file__ as predictor_side
from benchmarks.runtimes.runtime_side import __file__ as side
from benchmarks.runtimes.web_page import WebPage, opened
from benchmarks.sides.processes import print_table
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
"""Each runtime's name for ``runtime_side``, and what pip installs, if it is not here."""

OTHER_PYTHONS = {"ai-edge-litert": ("3.12", "3.13")}
"""Pythons beside this one, which have to be on PATH."""


@dataclass(frozen=True)
class Photos:
    """The photos as files, and as a model takes them: uint8 ``[N, H, W, 3]``; ``expected`` by variant ``[N, C]``.

    ``labels`` are the bundle's ``[C]``.
    """

    paths: list[str]
    pixels: NDArray[np.uint8]
    expected: dict[str, NDArray[np.float32]]
    labels: tuple[str, ...]

    def cell(self, variant: str, answers: NDArray[np.float32]) -> str:
        """``200/200, 3e-06``."""
        mine = self.expected[variant]
        same = int((answers.argmax(1) == mine.argmax(1)).sum())
        return f"{same}/{len(mine)}, {np.abs(answers - mine).max():.0e}"


def look(bundle: Path, location: str) -> Photos:
    """Decode the photos, and ask our predictor with each variant."""
    loaded = {name: Predictor.load(bundle, name) for name in tflite_variants(bundle)}
    manifest = read_manifest(bundle)
    paths = list(find_photos(location))
    pixels = np.stack([decode(Path(path).read_bytes(), manifest.input) for path in paths])
    expected = {name: np.stack([one.probabilities(photo) for photo in pixels]) for name, one in loaded.items()}
    return Photos(paths, pixels, expected, manifest.labels)


def tflite_variants(bundle: Path) -> dict[str, Path]:
    """The bundle's TFLite files by variant."""
    return {path.stem: path for path in sorted(bundle.glob("*.tflite"))}


def ask(python: Path, runtime: str, model: Path, source: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """What a runtime says of itself, and its answers. Raises ClickException with its error where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "answers.npy"
        command = [str(python), side, runtime, str(model), str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(done.stderr.strip().splitlines()[-1][:200])
        return json.loads(done.stdout.splitlines()[-1]), np.load(target)


def _runtime_rows(bundle: Path, photos: Photos, folder: Path, only: str | None) -> Iterator[list[str]]:
    np.save(folder / "pixels.npy", photos.pixels)
    (folder / "paths.txt").write_text("\n".join(photos.paths))
    for number, (name, (runtime, *requirements)) in enumerate(RUNTIMES.items()):
        if only in (None, name):
            python = environment(folder / str(number), *requirements)
            yield _row(python, runtime, bundle, photos, folder / "pixels.npy", "")
            yield from other_rows(name, bundle, photos, folder)
            if runtime == "mediapipe":
                yield _row(python, runtime, bundle, photos, folder / "paths.txt", ", its own resizing")


def other_rows(name: str, bundle: Path, photos: Photos, folder: Path) -> Iterator[list[str]]:
    """A row for each of a runtime's :data:`OTHER_PYTHONS`, also of one that is not here; ``folder`` has the pixels."""
    runtime, *requirements = RUNTIMES[name]
    for version in OTHER_PYTHONS.get(name, ()):
        try:
            python = environment(folder / version, *requirements, version=version)
            yield _row(python, runtime, bundle, photos, folder / "pixels.npy", "")
        except click.ClickException as error:
            yield [name, version, "", *[f"not run: {error.message}"] * len(photos.expected)]


def predictor_row(words: str, bundle: Path, photos: Photos, folder: Path) -> list[str]:
    """Our predictor in the Python that ``words`` start, from the photos' files on; ``folder`` is for what passes."""
    np.save(folder / "pixels.npy", photos.pixels)
    (folder / "paths.txt").write_text("\n".join(str(Path(path).resolve()) for path in photos.paths))
    said: dict[str, Any] = {"runtime": words, "python": "", "cpu": ""}
    cells = []
    for variant in photos.expected:
        try:
            said, answers = ask_predictor(words, bundle, variant, folder)
            cell = photos.cell(variant, answers)
            cells.append(f"{cell}, test pictures {said['golden']:.0e}, pixels {said['pixels']}")
        except click.ClickException as error:
            cells.append(error.message)
    return [f"our predictor on {said['runtime']}", said["python"], said["cpu"], *cells]


def ask_predictor(words: str, bundle: Path, variant: str, folder: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """What our predictor in another Python says of itself, and its answers to the photos that ``folder`` lists.

    Raises:
        ClickException: that Python is not there (``not run: …``), or ends with an error (``no: …``).
    """
    target = folder / "answers.npy"
    given = (bundle.resolve(), variant, folder / "paths.txt", folder / "pixels.npy", target)
    try:
        command = [*shlex.split(words), predictor_side, *map(str, given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise click.ClickException(f"not run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.strip() or f"status {done.returncode}"
        raise click.ClickException(f"no: {said.splitlines()[-1][:200]}")
    return json.loads(done.stdout.splitlines()[-1]), np.load(target)


def _row(python: Path, runtime: str, bundle: Path, photos: Photos, source: Path, note: str) -> list[str]:
    said: dict[str, Any] = {"runtime": runtime, "python": "", "cpu": ""}
    cells = []
    for variant, path in tflite_variants(bundle).items():
        try:
            said, answers = ask(python, runtime, path, source)
            cells.append(photos.cell(variant, answers) + wrong_labels(said.get("labels"), photos.labels))
        except click.ClickException as error:
            cells.append(f"no: {error.message}")
    return [said["runtime"] + note, said["python"], said["cpu"], *cells]


def wrong_labels(read: Sequence[str] | None, expected: Sequence[str]) -> str:
    """A cell's note where a runtime that reads the labels in the file has read other names; else nothing."""
    return f", labels {', '.join(read)}" if read and list(read) != list(expected) else ""


def _browser_rows(bundle: Path, photos: Photos, folder: Path) -> Iterator[list[str]]:
    pages = {}
    for variant in tflite_variants(bundle):
        write_site(bundle, folder / variant, variant)
        with opened(folder / variant) as page:
            version = page.page.context.browser.version if page.page.context.browser else ""
            pages[variant] = [_on_pixels(page, photos), _on_files(page, photos)]
    for place, note in enumerate(("", ", its own decoding")):
        cells = [photos.cell(variant, answers[place]) for variant, answers in pages.items()]
        yield [f"LiteRT.js 2.5.3 in Chromium {version}{note}", "", "wasm", *cells]


def _on_pixels(page: WebPage, photos: Photos) -> NDArray[np.float32]:
    return np.stack([page.probabilities(photo) for photo in photos.pixels])


def _on_files(page: WebPage, photos: Photos) -> NDArray[np.float32]:
    height, width = photos.pixels.shape[1:3]
    found = (page.pixels(Path(path).read_bytes(), height, width) for path in photos.paths)
    return np.stack([page.probabilities(pixels) for pixels in found])


def _needs_rows(bundle: Path) -> Iterator[list[str]]:
    for variant, path in tflite_variants(bundle).items():
        needed = required_operations(path)
        yield [variant, oldest_runtime(needed) or "not known", ", ".join(map(str, needed))]


@click.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="A folder with a model.")
@click.option("--photos", "location", required=True, help="A folder with photos.")
@click.option("--only", type=click.Choice([*RUNTIMES, "browser"]))
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="WORDS",
    help="Our predictor in this Python instead, as 'qemu-aarch64-static -L ROOT ROOT/usr/bin/python3'; repeatable.",
)
def main(bundle: Path, location: str, only: str | None, pythons: tuple[str, ...]) -> None:
    """Print what each variant needs, and how each runtime answers."""
    header = ("runtime", "Python", "CPU", *tflite_variants(bundle))
    words = "python -m benchmarks.runtimes.compatibility --bundle ... --photos ..."
    print_table(words, ("variant", "oldest TensorFlow Lite", "operations and their versions"), _needs_rows(bundle))
    photos = look(bundle, location)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if pythons:
            print_table(words, header, (predictor_row(one, bundle, photos, folder) for one in pythons))
            return
        rows = [_runtime_rows(bundle, photos, folder, only)] if only != "browser" else []
        rows += [_browser_rows(bundle, photos, folder)] if only in (None, "browser") else []
        print_table(words, header, (row for several in rows for row in several))


if __name__ == "__main__":
    main()
