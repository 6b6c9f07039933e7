"""Peak memory to decode photos of every format: the largest that are accepted, and those that are refused.

Each photo is decoded in a process of its own with a limited address space, within the budget of a function of
``--function-memory`` MB. The peak is above the interpreter with the decoder loaded, and includes the file.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.helpers.large_photos import KINDS, PhotoKind, bombs, icns_bomb, icon_bomb, register_encoders
from benchmarks.helpers.processes import ROOT, print_table

_SIDE = "benchmarks.sides.decoding_memory_side"
_MODEL_SIDE = 224
_LARGEST_SIDE = 7_071
"""Side of a square photo of 50 million pixels."""
_NEAR_LIMIT = 0.97
_SMALLEST_SIDE = 64


@dataclass(frozen=True)
class Peak:
    """Result for one photo: its size, its code (empty if it was decoded), the message and the peak in MiB."""

    name: str
    pixels: int
    code: str
    message: str
    mib: float


def decode_limited(paths: Sequence[Path], function_memory: int) -> list[dict[str, Any]]:
    """Decode files in limited children; return ``code``, ``message`` and ``mib`` of each."""
    command = [sys.executable, "-m", _SIDE, str(function_memory), str(_MODEL_SIDE), *map(str, paths)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MALLOC_ARENA_MAX": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    return [dict(result) for result in json.loads(done.stdout)]


def peaks(kind: PhotoKind, function_memory: int, side: int, folder: Path) -> Iterator[Peak]:
    """Yield the peak of a square photo and, if it is refused, of the largest that is accepted."""
    first = peak = _peak(kind, function_memory, side, folder)
    yield first
    while peak.code == "too-large" and side > _SMALLEST_SIDE:
        found = re.search(r"more than ([\d,]+) pixels", peak.message)
        limit = int(found[1].replace(",", "")) if found else 0
        side = min(int(math.sqrt(_NEAR_LIMIT * limit)), side - 1) if limit > side * side / 16 else side // 2
        peak = _peak(kind, function_memory, side, folder)
    if peak is not first:
        yield peak


def _peak(kind: PhotoKind, function_memory: int, side: int, folder: Path) -> Peak:
    path = folder / "photo"
    path.write_bytes(_write_apart(kind, side))
    (result,) = decode_limited([path], function_memory)
    return Peak(kind.name, side * side, **result)


def refused(function_memory: int, folder: Path) -> Iterator[Peak]:
    """Yield the peaks of small files whose headers state 30,000 x 30,000 pixels; of each kind, the highest."""
    register_encoders()
    files = [(kind.name, bombs(kind)) for kind in KINDS] + [("ICO", iter([icon_bomb()])), ("ICNS", iter([icns_bomb()]))]
    names: list[str] = []
    paths: list[Path] = []
    for name, contents in files:
        for content in contents:
            names.append(f"{name}, bomb")
            paths.append(folder / f"bomb-{len(paths)}")
            paths[-1].write_bytes(content)
    found = [
        Peak(name, 0, **result) for name, result in zip(names, decode_limited(paths, function_memory), strict=True)
    ]
    for name in dict.fromkeys(names):
        yield max((peak for peak in found if peak.name == name), key=lambda peak: peak.mib)


def _write_apart(kind: PhotoKind, side: int) -> bytes:
    """Write a photo in another process: the encoder's memory is gone afterwards."""
    with ProcessPoolExecutor(1, initializer=register_encoders) as pool:
        return pool.submit(kind.write, side, side).result()


def _row(peak: Peak) -> list[str]:
    size = f"{peak.pixels / 1e6:.1f} million" if peak.pixels else ""
    return [peak.name, size, "decoded" if not peak.code else f"`{peak.code}`", f"{peak.mib:.0f} MiB"]


def _rows(function_memory: int, side: int) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            yield from map(_row, peaks(kind, function_memory, side, Path(folder)))
        yield from map(_row, refused(function_memory, Path(folder)))


@click.command()
@click.option("--function-memory", type=int, default=1024, show_default=True, help="Size of the function in MB.")
@click.option("--side", type=int, default=_LARGEST_SIDE, show_default=True, help="Side of the first photos in pixels.")
def main(function_memory: int, side: int) -> None:
    """Measure the peak memory of decoding photos of every format."""
    command = f"python -m benchmarks.decoding_memory --function-memory {function_memory}"
    print_table(command, ["photo", "pixels", "result", "peak above start"], _rows(function_memory, side))


if __name__ == "__main__":
    main()
