"""Format ``training/run.json``: software versions, seed, seconds by phase and peak memory of one training job."""

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:
    from train_job.extraction.extract_features import ExtractionCounts
    from train_job.pipeline.prepare_data import JobContext

RUN_JSON = "training/run.json"
BATCH_JOB = "batch_job"
"""Key in the manifest's ``training`` object: id of the AWS Batch job that made the version."""

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "ai-edge-litert", "pyarrow", "transferlite")


def batch_attempt() -> int:
    """Number of this attempt of the AWS Batch job; 1 elsewhere."""
    text = os.environ.get("AWS_BATCH_JOB_ATTEMPT", "1")
    return int(text) if text.isdigit() else 1


def batch_job() -> str:
    """Id of the AWS Batch job, the same for all its attempts; empty elsewhere."""
    return os.environ.get("AWS_BATCH_JOB_ID", "")


def software_versions() -> dict[str, str]:
    """Installed versions of the packages that influence a model. TensorFlow has two package names."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def peak_memory() -> int:
    """Peak resident memory of this process in bytes.

    ``getrusage`` is only the fallback: on Linux its maximum starts at the peak of the parent process.
    """
    with contextlib.suppress(OSError):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_json(job: "JobContext", counts: "ExtractionCounts", manifest: Manifest) -> str:
    """Format the record of this run. Its ``seconds`` lack the phases after the report, which are still to come."""
    record = {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "attempt": batch_attempt(),
        "seed": job.options.seed,
        "dataset_sha256": manifest.dataset["sha256"],
        "photos": manifest.dataset["photos"],
        "features": asdict(counts),
        "seconds": dict(job.phases.seconds),
        "peak_memory_bytes": peak_memory(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": software_versions(),
    }
    return json.dumps(record, indent=2) + "\n"
