"""Photos to measure with: the real ones where they are, else generated ones, as many as it takes.

``python -m benchmarks.photos FOLDER --count 100000`` writes a folder per class in about a minute. A photo is a function
of its number: its class shows in its hue and in how fine its texture is, the rest is chance, and no two are the same.
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
class Kind:
    """What generated photos are like: how many classes, width and height in pixels, JPEG quality."""

    classes: int = 10
    width: int = 160
    height: int = 120
    quality: int = 85

    def key(self, number: int) -> str:
        """Where photo ``number`` is kept: ``class3/00000013.jpg``."""
        return f"class{number % self.classes}/{number:08}.jpg"

    def picture(self, number: int) -> Image.Image:
        """Photo ``number``."""
        label = number % self.classes
        rows, columns = ((5, 7), (24, 32))[label % 2]
        colour = 255 * np.array(colorsys.hsv_to_rgb(label // 2 * 2 / self.classes, 0.8, 0.8))
        noise = np.random.default_rng(number).integers(0, 256, (rows, columns, 3))
        coarse = (0.5 * noise + 0.5 * colour).astype(np.uint8)
        return Image.fromarray(coarse).resize((self.width, self.height), Image.Resampling.BICUBIC)

    def jpeg(self, number: int) -> bytes:
        """Photo ``number`` as a file."""
        file = io.BytesIO()
        self.picture(number).save(file, "JPEG", quality=self.quality)
        return file.getvalue()


USUAL = Kind(classes=2, width=500, height=375, quality=90)
"""Photos of a usual size, for benchmarks whose classes do not matter."""


def write_folders(folder: Path, count: int, kind: Kind) -> None:
    """Write ``count`` photos below ``folder``, a folder per class."""
    for number in range(kind.classes):
        (folder / kind.key(number)).parent.mkdir(parents=True, exist_ok=True)
    for _ in prefetch_map(
        lambda number: (folder / kind.key(number)).write_bytes(kind.jpeg(number)), range(count), CORES
    ):
        pass


def real_photos() -> Path | None:
    """The cats and dogs of ``$TRANSFERLITE_TEST_DATA``, a folder with ``train_img/`` and ``label-train.csv``."""
    usual = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRANSFERLITE_TEST_DATA") or usual) / "catsdogs"
    return folder if folder.is_dir() else None


def seed_photos(folder: Path, count: int) -> Path:
    """Generated photos in ``train_img/`` below ``folder``, with ``label-train.csv``: what :func:`real_photos` has."""
    (folder / "train_img").mkdir()
    names = [f"{('cat', 'dog')[number % 2]}.{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (folder / "train_img" / name).write_bytes(USUAL.jpeg(number))
    with (folder / "label-train.csv").open("w") as file:
        csv.writer(file).writerows([["File Name", "Label"], *([name, name.split(".")[0]] for name in names)])
    return folder


def decoded(photos: Path | None, count: int, size: int) -> NDArray[np.uint8]:
    """``count`` photos ``[count, size, size, 3]`` of a folder, again from the first if it has fewer, or generated."""
    paths = sorted(photos.glob("*.jpg")) if photos else []

    def one(number: int) -> NDArray[np.uint8]:
        picture: Any = Image.open(paths[number % len(paths)]) if paths else USUAL.picture(number)
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))

    return np.stack([one(number) for number in range(count)])


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", default=100_000, show_default=True)
@click.option("--classes", default=Kind.classes, show_default=True)
@click.option("--width", default=Kind.width, show_default=True)
@click.option("--height", default=Kind.height, show_default=True)
def main(folder: Path, count: int, classes: int, width: int, height: int) -> None:
    """Write generated photos into a folder per class."""
    start = time.perf_counter()
    write_folders(folder, count, Kind(classes, width, height))
    click.echo(f"{count} photos in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
