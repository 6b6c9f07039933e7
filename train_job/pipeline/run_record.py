"""``training/run.json``: what one run was and what it took, for machines to read."""

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:
    from train_job.extraction.extract_features import ExtractionCounts
    from train_job.pipeline.prepare_data import JobContext

RUN_JSON = "training/run.json"
BATCH_JOB = "batch_job"
"""Among what a manifest says of the training: the AWS Batch job that made it."""

_SOFTWARE = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "ai-edge-litert", "pyarrow", "transferlite")


def attempt() -> int:
    """Which attempt of an AWS Batch job this is; 1 elsewhere."""
    text = os.environ.get("AWS_BATCH_JOB_ATTEMPT", "1")
    return int(text) if text.isdigit() else 1


def batch_job() -> str:
    """The AWS Batch job of which this is an attempt; empty elsewhere."""
    return os.environ.get("AWS_BATCH_JOB_ID", "")


def versions() -> dict[str, str]:
    """The release of each package of interest that is installed; TensorFlow has more than one name."""
    found = {}
    for name in _SOFTWARE:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def peak_memory() -> int:
    """The most bytes that this process has had in memory at once."""
    with contextlib.suppress(OSError):  # what getrusage says on Linux begins at the peak of who started the process
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_json(job: "JobContext", counts: "ExtractionCounts", manifest: Manifest) -> str:
    """Versions, seed, hash of the data, seconds by phase so far, what the features cost, peak memory."""
    record = {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "attempt": attempt(),
        "seed": job.options.seed,
        "dataset_sha256": manifest.dataset["sha256"],
        "photos": manifest.dataset["photos"],
        "features": asdict(counts),
        "seconds": dict(job.phases.seconds),
        "peak_memory_bytes": peak_memory(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
    }
    return json.dumps(record, indent=2) + "\n"
