"""What a model costs on this device: start, latency, memory and size, by variant and number of threads."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transferlite.errors import TransferLiteError
from transferlite.inference.interpreter import usable_cores
from transferlite.registry.local_bundle import find_bundle, read_manifest

PHOTO_SIZE = (640, 480)


@dataclass(frozen=True)
class BenchmarkCase:
    """A variant on so many threads, and what was found; ``error`` says why nothing was.

    Attributes:
        size: bytes of the TFLite file.
        cold: seconds from the start of a process to its first answer, the median of them.
        p50: seconds from a photo's bytes to its answer, the median of all calls; p99: what 99 % of them keep to.
        memory: bytes, the most that a process had in use.
        calls: how many answers p50 and p99 are of.
    """

    variant: str
    threads: int
    size: int
    cold: float | None = None
    p50: float | None = None
    p99: float | None = None
    memory: int | None = None
    calls: int = 0
    runtime: str = ""
    error: str = ""


@dataclass(frozen=True)
class BenchmarkResult:
    """A bundle's cases, and where they were measured."""

    model_id: str
    machine: str
    cores: int
    python: str
    photo: str
    cases: tuple[BenchmarkCase, ...]

    def to_dict(self) -> dict[str, Any]:
        """The form printed as JSON; seconds and bytes."""
        return asdict(self)

    def table(self) -> str:
        """The same for people: milliseconds and MiB."""
        rows = [["variant", "threads", "cold ms", "p50 ms", "p99 ms", "memory MiB", "size MiB"]]
        for case in self.cases:
            times = [f"{seconds * 1e3:.1f}" if seconds else "-" for seconds in (case.cold, case.p50, case.p99)]
            memory = f"{case.memory / 2**20:.1f}" if case.memory else "-"
            rows.append([case.variant, str(case.threads), *times, memory, f"{case.size / 2**20:.1f}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        runtimes = ", ".join(sorted({case.runtime for case in self.cases} - {""})) or "no runtime"
        head = f"{self.model_id} on {self.machine}, {self.cores} cores, Python {self.python}, {runtimes}; {self.photo}"
        errors = [f"{case.variant}: {case.error}" for case in self.cases if case.error]
        return "\n".join([head, *lines, *dict.fromkeys(errors)])


def measure_bundle(
    bundle: Path,
    variants: Sequence[str] = (),
    threads: Sequence[int] = (),
    photo: Path | None = None,
    starts: int = 5,
    calls: int = 200,
) -> BenchmarkResult:
    """Measure a bundle's variants, each case in ``starts`` fresh processes that take turns.

    Args:
        bundle: its folder, or one that ``transferlite models pull`` fills.
        variants: all TFLite files that are there, if empty.
        threads: one and all cores, if empty.
        photo: what to answer; by default a JPEG of noise, of :data:`PHOTO_SIZE`.
        starts: processes of each case.
        calls: answers of each case, over all its processes.

    Raises:
        NotFoundError: there is no such bundle or variant.
        BundleError: its manifest is damaged.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    files = {name: folder / manifest.variant(name).path for name in variants or manifest.variants}
    kept = {name: path for name, path in files.items() if variants or (path.suffix == ".tflite" and path.is_file())}
    cases = [(name, count) for name in kept for count in dict.fromkeys(threads or (1, usable_cores()))]
    with tempfile.TemporaryDirectory() as temporary:
        image = photo or _noise(Path(temporary))
        found: dict[tuple[str, int], list[dict[str, Any]]] = {case: [] for case in cases}
        for _ in range(starts):
            for case in cases:
                found[case].append(_side(folder, *case, image, -(-calls // starts)))
    said = photo.name if photo else "a JPEG of noise, {}x{}".format(*PHOTO_SIZE)
    measured = tuple(_case(*case, kept[case[0]], sides) for case, sides in found.items())
    return BenchmarkResult(
        manifest.model_id, platform.machine(), usable_cores(), platform.python_version(), said, measured
    )


def _noise(folder: Path) -> Path:
    """A photo that is as large as JPEGs of its size get."""
    import numpy as np
    from PIL import Image

    width, height = PHOTO_SIZE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    Image.fromarray(coarse).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(folder / "photo.jpg", quality=90)
    return folder / "photo.jpg"


def _side(bundle: Path, variant: str, threads: int, photo: Path, calls: int) -> dict[str, Any]:
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    words = map(str, (time.monotonic(), bundle, variant, threads, photo, calls))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "transferlite.edge.benchmark_process", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        return {"error": f"its process ended: {said}"}
    return dict(json.loads(done.stdout))


def _case(variant: str, threads: int, file: Path, sides: Sequence[dict[str, Any]]) -> BenchmarkCase:
    size = file.stat().st_size if file.is_file() else 0
    if errors := [side["error"] for side in sides if "error" in side]:
        return BenchmarkCase(variant, threads, size, error=errors[0])
    seconds = sorted(one for side in sides for one in side["seconds"])
    return BenchmarkCase(
        variant,
        threads,
        size,
        cold=statistics.median(side["first"] for side in sides),
        p50=statistics.median(seconds),
        p99=seconds[-(-99 * len(seconds) // 100) - 1],  # the nearest rank
        memory=max(side["peak"] for side in sides),
        calls=len(seconds),
        runtime=sides[0]["runtime"],
    )


def check(found: BenchmarkResult) -> None:
    """Raises TransferLiteError if nothing could be measured, or not everything."""
    failed = [case for case in found.cases if case.error]
    if failed:
        raise TransferLiteError(f"{len(failed)} of {len(found.cases)} cases could not be measured")
