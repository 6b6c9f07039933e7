"""Photos for benchmarks: real ones if a folder with them exists, otherwise generated ones, any number of them.

``python -m benchmarks.helpers.photos FOLDER --count 100000`` writes a folder per class in about a minute.
A generated photo depends on its number only. Hue and texture show its class, the rest is random, and no two are equal.
"""

import colorsys
import csv
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from transferlite.storage.prefetch import prefetch_map

CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class PhotoStyle:
    """Style of generated photos: number of classes, width and height in pixels, JPEG quality."""

    classes: int = 10
    width: int = 160
    height: int = 120
    quality: int = 85

    def key(self, number: int) -> str:
        """Path of photo ``number``, such as ``class3/00000013.jpg``."""
        return f"class{number % self.classes}/{number:08}.jpg"

    def image(self, number: int) -> Image.Image:
        """Draw photo ``number``."""
        label = number % self.classes
        rows, columns = ((5, 7), (24, 32))[label % 2]
        colour = 255 * np.array(colorsys.hsv_to_rgb(label // 2 * 2 / self.classes, 0.8, 0.8))
        noise = np.random.default_rng(number).integers(0, 256, (rows, columns, 3))
        coarse = (0.5 * noise + 0.5 * colour).astype(np.uint8)
        return Image.fromarray(coarse).resize((self.width, self.height), Image.Resampling.BICUBIC)

    def jpeg(self, number: int) -> bytes:
        """Draw photo ``number`` and encode it as JPEG."""
        file = io.BytesIO()
        self.image(number).save(file, "JPEG", quality=self.quality)
        return file.getvalue()


USUAL = PhotoStyle(classes=2, width=500, height=375, quality=90)
"""Photos of a usual size, for benchmarks in which the classes do not matter."""


def write_folders(folder: Path, count: int, style: PhotoStyle) -> None:
    """Write ``count`` photos below ``folder``, a folder per class."""
    for number in range(style.classes):
        (folder / style.key(number)).parent.mkdir(parents=True, exist_ok=True)
    for _ in prefetch_map(
        lambda number: (folder / style.key(number)).write_bytes(style.jpeg(number)), range(count), CORES
    ):
        pass


def real_photos() -> Path | None:
    """Folder of cats and dogs in ``$TRANSFERLITE_TEST_DATA``, with ``train_img/`` and ``label-train.csv``, if any."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("TRANSFERLITE_TEST_DATA") or default) / "catsdogs"
    return folder if folder.is_dir() else None


def seed_photos(folder: Path, count: int) -> Path:
    """Write generated photos to ``folder`` in the layout of :func:`real_photos`; returns ``folder``."""
    (folder / "train_img").mkdir()
    names = [f"{('cat', 'dog')[number % 2]}.{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (folder / "train_img" / name).write_bytes(USUAL.jpeg(number))
    with (folder / "label-train.csv").open("w") as file:
        csv.writer(file).writerows([["File Name", "Label"], *([name, name.split(".")[0]] for name in names)])
    return folder


def decoded_photos(photos: Path | None, count: int, size: int) -> NDArray[np.uint8]:
    """Decode ``count`` photos of a folder (repeated if it has fewer) or generated ones: ``[count, size, size, 3]``."""
    paths = sorted(photos.glob("*.jpg")) if photos else []

    def decode(number: int) -> NDArray[np.uint8]:
        image: Any = Image.open(paths[number % len(paths)]) if paths else USUAL.image(number)
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))

    return np.stack([decode(number) for number in range(count)])


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", default=100_000, show_default=True)
@click.option("--classes", default=PhotoStyle.classes, show_default=True)
@click.option("--width", default=PhotoStyle.width, show_default=True)
@click.option("--height", default=PhotoStyle.height, show_default=True)
def main(folder: Path, count: int, classes: int, width: int, height: int) -> None:
    """Write generated photos, a folder per class."""
    start = time.perf_counter()
    write_folders(folder, count, PhotoStyle(classes, width, height))
    click.echo(f"{count} photos in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
