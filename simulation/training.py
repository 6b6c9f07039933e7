"""A training as AWS Batch runs it on Spot: a process that may be told to stop, or be gone, and is started again."""

import json
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any

from simulation.world import DATA, REGISTRY, World

_ATTEMPTS = 5
_GRACE_SECONDS = 30
_LONGEST = 600


@dataclass
class Run:
    """A job's end: its exit status, what it printed as JSON, and how its earlier attempts were ended."""

    status: int
    said: dict[str, Any]
    ended: list[str] = field(default_factory=list)


def train(world: World, labels: str, *more: str, kills: int) -> Run:
    """Submit the training job as the schedule does; ``kills`` of its attempts are ended by Spot."""
    words = ["train", "--labels", f"s3://{DATA}/{labels}", "--images", f"s3://{DATA}/photos", "--registry", REGISTRY]
    words += ["--image-size", "32", "--split", "60/20/20", "--json", *more]
    job = str(uuid.UUID(int=world.chance.getrandbits(128)))
    ended: list[str] = []
    for attempt in range(1, _ATTEMPTS + 1):
        variables = {"AWS_BATCH_JOB_ID": job, "AWS_BATCH_JOB_ATTEMPT": str(attempt)}
        after = world.chance.uniform(1, 12) if len(ended) < kills else _LONGEST
        how = world.chance.choice([signal.SIGTERM, signal.SIGKILL])
        status, out, err = _attempt(words, dict(world.environment) | variables, after, how)
        if status in (0, 2, 3):
            return Run(status, json.loads(out.splitlines()[-1]) if out.strip() else {}, ended)
        ended.append(how.name if after < _LONGEST else err.strip().splitlines()[-1][:200])
    raise RuntimeError(f"the job failed {_ATTEMPTS} times: {ended}\n{err[-2000:]}")


def _attempt(words: list[str], environment: dict[str, str], after: float, how: signal.Signals) -> tuple[int, str, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "transferlite", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        try:
            out, err = process.communicate(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # Spot gives no more than that
            out, err = process.communicate()
    return process.returncode, out, err
