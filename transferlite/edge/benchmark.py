"""Measure a model on this machine: start, latency, memory and size, by variant and number of threads."""

import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transferlite.child_python import module_command
from transferlite.errors import TransferLiteError
from transferlite.inference.thread_count import usable_cores
from transferlite.registry.local_bundle import find_bundle, read_manifest

PHOTO_SIZE = (640, 480)


@dataclass(frozen=True)
class BenchmarkCase:
    """Measurements of one variant at one number of threads, or the ``error`` that prevented them.

    Attributes:
        size: bytes of the TFLite file.
        cold: seconds from the start of a process to its first prediction, median over processes.
        p50: seconds from a photo's bytes to its prediction, median over all calls.
        p99: 99th percentile of the same.
        memory: largest resident memory of any process, in bytes.
        calls: number of predictions behind p50 and p99.
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
    """Measurements of a bundle, and the machine they were made on."""

    model_id: str
    machine: str
    cores: int
    python: str
    photo: str
    cases: tuple[BenchmarkCase, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types, in seconds and bytes."""
        return asdict(self)

    def table(self) -> str:
        """Format as a text table, in milliseconds and MiB."""
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

    def require_all(self) -> None:
        """Raise TransferLiteError if any case could not be measured."""
        if failed := sum(bool(case.error) for case in self.cases):
            raise TransferLiteError(f"{failed} of {len(self.cases)} cases could not be measured")


def measure_bundle(
    bundle: Path,
    variants: Sequence[str] = (),
    threads: Sequence[int] = (),
    photo: Path | None = None,
    starts: int = 5,
    calls: int = 200,
) -> BenchmarkResult:
    """Measure a bundle's variants in fresh processes, one at a time, alternating between the cases.

    Args:
        bundle: a bundle folder, or a folder that ``transferlite models pull`` fills.
        variants: variants to measure; if empty, all TFLite files that exist.
        threads: numbers of threads; if empty, 1 and all cores.
        photo: photo to predict; if None, a JPEG of noise of :data:`PHOTO_SIZE`.
        starts: processes per case.
        calls: predictions per case, over all its processes.

    Raises:
        NotFoundError: no such bundle or variant.
        BundleError: the manifest is damaged.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    files = {name: folder / manifest.variant(name).path for name in variants or manifest.variants}
    if not variants:
        files = {name: path for name, path in files.items() if path.suffix == ".tflite" and path.is_file()}
    cases = [(name, count) for name in files for count in dict.fromkeys(threads or (1, usable_cores()))]
    with tempfile.TemporaryDirectory() as temporary:
        photo_path = photo or _noise(Path(temporary))
        runs: dict[tuple[str, int], list[dict[str, Any]]] = {case: [] for case in cases}
        for _ in range(starts):
            for case in cases:
                runs[case].append(_run_process(folder, *case, photo_path, -(-calls // starts)))
    return BenchmarkResult(
        manifest.model_id,
        platform.machine(),
        usable_cores(),
        platform.python_version(),
        photo.name if photo else "a JPEG of noise, {}x{}".format(*PHOTO_SIZE),
        tuple(_summarise(*case, files[case[0]], results) for case, results in runs.items()),
    )


def _noise(folder: Path) -> Path:
    """Write a JPEG of noise: as large as a photo of its size gets."""
    import numpy as np
    from PIL import Image

    width, height = PHOTO_SIZE
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    Image.fromarray(coarse).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(folder / "photo.jpg", quality=90)
    return folder / "photo.jpg"


def _run_process(bundle: Path, variant: str, threads: int, photo: Path, calls: int) -> dict[str, Any]:
    """Run :mod:`transferlite.edge.benchmark_process` and return its JSON, or ``{"error": ...}``."""
    arguments = (time.monotonic(), bundle, variant, threads, photo, calls)
    command = module_command("transferlite.edge.benchmark_process", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return {"error": f"the process failed: {message}"}
    return dict(json.loads(done.stdout))


def _summarise(variant: str, threads: int, file: Path, results: Sequence[dict[str, Any]]) -> BenchmarkCase:
    size = file.stat().st_size if file.is_file() else 0
    if errors := [result["error"] for result in results if "error" in result]:
        return BenchmarkCase(variant, threads, size, error=errors[0])
    seconds = sorted(value for result in results for value in result["seconds"])
    return BenchmarkCase(
        variant,
        threads,
        size,
        cold=statistics.median(result["first"] for result in results),
        p50=statistics.median(seconds),
        p99=seconds[-(-99 * len(seconds) // 100) - 1],  # nearest rank
        memory=max(result["peak"] for result in results),
        calls=len(seconds),
        runtime=results[0]["runtime"],
    )
