"""Training as the deployed state machine runs it: plan, extract features on several machines if needed, train.

Each job is a process in place of an AWS Batch job on Spot: it may get SIGTERM or be killed, and is then started again.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from simulation.account import DATA, REGISTRY, Account
from transferlite.storage.locations import read_uri

_DEFINITION = Path(__file__).parents[1] / "train_job" / "training.asl.json"
_MAX_ATTEMPTS = 5
_GRACE_SECONDS = 30
"""Time between Spot's SIGTERM and its SIGKILL."""
_OUTPUT_LINES = 12
"""Approximate number of lines that a training prints; an interruption comes after one of them."""
_NOT_PROMOTED = 3
"""Exit status of a training that published a version but did not promote it."""
_SUBSTITUTIONS = {
    "Photos": f"s3://{DATA}/photos",
    "Labels": f"s3://{DATA}/labels.csv",
    "Registry": REGISTRY,
    "Features": f"{REGISTRY}/features",
    "Backbone": "efficientnet_lite0",
    "Epochs": "8",
}
_IMAGE_SIZE = ("--image-size", "32")
_SPLIT = ("--split", "40/20/40")
"""Large test part: the promotion check can refuse a worse version only with enough test photos."""


@dataclass
class TrainingRun:
    """Result of one execution of the state machine.

    Attributes:
        status: exit status of the training; None if nothing was trained.
        output: JSON that the training printed.
        shards: machines that extracted features before the training; 0 if the training did.
        interruptions: how Spot ended attempts of the jobs.
        failures: attempts that failed without an interruption.
    """

    status: int | None = None
    output: dict[str, Any] = field(default_factory=dict)
    shards: int = 0
    interruptions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run_training(
    account: Account, *options: str, kills: int, new_labels: int = 0, photos_per_shard: int = 20_000
) -> TrainingRun:
    """Run the state machine once.

    Args:
        account: the simulated account.
        options: further options of the training.
        kills: number of attempts that Spot ends.
        new_labels: new labels needed to train.
        photos_per_shard: new photos per machine that extracts features.
    """
    run = TrainingRun()
    spot = _Spot(account, run, kills)
    plan_uri = f"{REGISTRY}/plans/{account.rng.getrandbits(64):016x}.json"
    inputs = ["--images", _SUBSTITUTIONS["Photos"], "--labels", _SUBSTITUTIONS["Labels"], "--registry", REGISTRY]
    limits = ["--new-labels", str(new_labels), "--max-shards", "2", "--photos-per-shard", str(photos_per_shard)]
    spot.run_job(["plan", *inputs, "--features", _SUBSTITUTIONS["Features"], *limits, "--out", plan_uri])
    plan = json.loads(read_uri(plan_uri))
    if not plan["go"]:
        return run
    if plan["shards"] > 1:
        run.shards = plan["shards"]
        for index in range(run.shards):
            array = {"AWS_BATCH_JOB_ARRAY_SIZE": str(run.shards), "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
            spot.run_job([*_job_command("ExtractFeatures"), *_IMAGE_SIZE], array)
    command = [*_job_command("Train"), *_IMAGE_SIZE, *_SPLIT, "--json", *options]
    run.status, stdout = spot.run_job(command)
    run.output = json.loads(stdout.splitlines()[-1])
    return run


@cache
def _job_command(state: str) -> tuple[str, ...]:
    """Return the command of the job that a state of the state machine submits."""
    parameters = json.loads(_DEFINITION.read_text())["States"][state]["Parameters"]
    words = parameters["ContainerOverrides"]["Command"]
    return tuple(_SUBSTITUTIONS[word[2:-1]] if word.startswith("${") else word for word in words)


@dataclass
class _Spot:
    account: Account
    run: TrainingRun
    kills: int

    def run_job(self, command: list[str], variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a job until an attempt succeeds; return its exit status and output.

        Raises:
            RuntimeError: 5 attempts did not succeed.
        """
        job_id = str(uuid.UUID(int=self.account.rng.getrandbits(128)))
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            batch = {"AWS_BATCH_JOB_ID": job_id, "AWS_BATCH_JOB_ATTEMPT": str(attempt)}
            environment = {**self.account.environment, **batch, **(variables or {})}
            pending = len(self.run.interruptions) < self.kills
            interruption = _random_interruption(self.account.rng) if pending else None
            status, stdout, stderr, interrupted = _run_attempt(command, environment, interruption)
            if interrupted:
                self.run.interruptions.append(interrupted)
            elif status in (0, _NOT_PROMOTED):
                return status, stdout
            else:
                self.run.failures.append(f"{command[0]}, status {status}: {stderr.strip()[-500:]}")
        raise RuntimeError(f"{command[0]} failed {_MAX_ATTEMPTS} times; {self.run}")


@dataclass(frozen=True)
class _Interruption:
    """Spot interruption: ``seconds`` after output line number ``lines``, by SIGTERM or SIGKILL."""

    lines: int
    seconds: float
    sent_signal: signal.Signals


def _random_interruption(rng: random.Random) -> _Interruption:
    return _Interruption(rng.randint(0, _OUTPUT_LINES), rng.uniform(0, 1), rng.choice([signal.SIGTERM, signal.SIGKILL]))


def _run_attempt(
    command: list[str], environment: dict[str, str], interruption: _Interruption | None
) -> tuple[int, str, str, str]:
    """Run one attempt; return exit status, stdout, stderr and, if it was interrupted, how (else an empty string)."""
    with tempfile.TemporaryFile("w+") as stderr:
        full_command = [sys.executable, "-u", "-m", "transferlite", *command]
        process = subprocess.Popen(full_command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert process.stdout is not None
        output, last_line, interrupted = "", "start", ""
        if interruption is not None:
            for _ in range(interruption.lines):
                output += (line := process.stdout.readline())
                last_line = line.strip() or last_line
            time.sleep(interruption.seconds)
            if process.poll() is None:
                process.send_signal(interruption.sent_signal)
                interrupted = f"{interruption.sent_signal.name} after {last_line[:40]!r}"
        try:
            process.wait(_GRACE_SECONDS if interrupted else None)
        except subprocess.TimeoutExpired:
            process.kill()
        with process.stdout as rest:
            output += rest.read()
        stderr.seek(0)
        status = process.wait()
        finished_first = status in (0, _NOT_PROMOTED)
        return status, output, stderr.read(), "" if finished_first else interrupted
