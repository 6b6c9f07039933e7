"""A training as the state machine runs it: a check, rows by an array job where many photos are new, one job to train.

Each job is a process on AWS Batch's Spot machines: it may be told to stop, or be gone, and is started again.
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

from simulation.world import DATA, REGISTRY, World
from transferlite.storage.locations import read_uri

_DEFINITION = Path(__file__).parents[1] / "train_job" / "training.asl.json"
_ATTEMPTS = 5
_GRACE_SECONDS = 30
_LINES = 12
"""A training prints about so many; one of them is the last that an attempt lives to see."""
_REFUSED = 3
"""The status of a training that published a version, and left the channel as it was."""
_PLACES = {
    "Photos": f"s3://{DATA}/photos",
    "Labels": f"s3://{DATA}/labels.csv",
    "Registry": REGISTRY,
    "Features": f"{REGISTRY}/features",
    "Backbone": "efficientnet_lite0",
    "Epochs": "8",
}
_SIZE = ("--image-size", "32")


@dataclass
class Run:
    """What became of one execution of the state machine.

    Attributes:
        status: the training's exit status; None where there was nothing to do.
        said: what it printed as JSON.
        shards: machines that made rows before it; 0 where it made them itself.
        ended: how Spot ended attempts of its jobs.
        failed: attempts that ended by themselves, and should not have.
    """

    status: int | None = None
    said: dict[str, Any] = field(default_factory=dict)
    shards: int = 0
    ended: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run_training(world: World, *more: str, kills: int, new_labels: int = 0, photos_per_shard: int = 20_000) -> Run:
    """Start the state machine as the schedule does; ``kills`` attempts of its jobs are ended by Spot."""
    run, name = Run(), f"{world.chance.getrandbits(64):016x}"
    spot = _Spot(world, run, kills)
    plan = f"{REGISTRY}/plans/{name}.json"
    places = ["--images", _PLACES["Photos"], "--labels", _PLACES["Labels"], "--registry", REGISTRY]
    asked = ["--new-labels", str(new_labels), "--max-shards", "2", "--photos-per-shard", str(photos_per_shard)]
    spot.job(["plan", *places, "--features", _PLACES["Features"], *asked, "--out", plan])
    found = json.loads(read_uri(plan))
    if not found["go"]:
        return run
    if found["shards"] > 1:
        run.shards = found["shards"]
        for index in range(run.shards):
            array = {"AWS_BATCH_JOB_ARRAY_SIZE": str(run.shards), "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
            spot.job([*_command("ExtractFeatures"), *_SIZE], array)
    words = [*_command("Train"), *_SIZE, "--split", "45/10/45", "--json", *more]
    run.status, out = spot.job(words)
    run.said = json.loads(out.splitlines()[-1])
    return run


@cache
def _command(state: str) -> tuple[str, ...]:
    """The words of the job that a state of the deployed machine submits."""
    parameters = json.loads(_DEFINITION.read_text())["States"][state]["Parameters"]
    words = parameters["ContainerOverrides"]["Command"]
    return tuple(_PLACES[word[2:-1]] if word.startswith("${") else word for word in words)


@dataclass
class _Spot:
    world: World
    run: Run
    kills: int

    def job(self, words: list[str], more: Mapping[str, str] | None = None) -> tuple[int, str]:
        """One job to its end; returns its exit status and what it printed. Raises RuntimeError where it has none."""
        job = str(uuid.UUID(int=self.world.chance.getrandbits(128)))
        for attempt in range(1, _ATTEMPTS + 1):
            variables = {"AWS_BATCH_JOB_ID": job, "AWS_BATCH_JOB_ATTEMPT": str(attempt), **(more or {})}
            moment = _moment(self.world.chance) if len(self.run.ended) < self.kills else None
            status, out, error, ended = _attempt(words, {**self.world.environment, **variables}, moment)
            if ended:
                self.run.ended.append(ended)
            elif status in (0, _REFUSED):
                return status, out
            else:
                self.run.failed.append(f"{words[0]}, status {status}: {error.strip()[-500:]}")
        raise RuntimeError(f"{words[0]} was tried {_ATTEMPTS} times; {self.run}")


@dataclass(frozen=True)
class _Moment:
    """When Spot takes the machine: ``seconds`` after the ``lines``-th line; with a word before, or without."""

    lines: int
    seconds: float
    how: signal.Signals


def _moment(chance: random.Random) -> _Moment:
    return _Moment(chance.randint(0, _LINES), chance.uniform(0, 1), chance.choice([signal.SIGTERM, signal.SIGKILL]))


def _attempt(words: list[str], environment: dict[str, str], moment: _Moment | None) -> tuple[int, str, str, str]:
    """One process: its status, output and errors, and how Spot ended it, if it did."""
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-u", "-m", "transferlite", *words]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        said, last, ended = "", "its start", ""
        if moment is not None:
            for _ in range(moment.lines):
                said += (line := process.stdout.readline())
                last = line.strip() or last
            time.sleep(moment.seconds)
            if process.poll() is None:
                process.send_signal(moment.how)
                ended = f"{moment.how.name} after {last[:40]!r}"
        try:
            process.wait(_GRACE_SECONDS if ended else None)
        except subprocess.TimeoutExpired:
            process.kill()  # Spot gives no more than that
        with process.stdout as rest:
            said += rest.read()
        errors.seek(0)
        status = process.wait()
        return status, said, errors.read(), "" if status in (0, _REFUSED) else ended  # it was quicker
