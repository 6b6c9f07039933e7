"""AWS Batch in moto: the job ``plan`` really runs; every other job ends as the test sets it."""

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from transferlite.cli.main import run

RECLAIMED = "Host EC2 (instance i-0123456789abcdef0) terminated."
"""Source: https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html"""
NO_CAPACITY = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
"""Source: https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_capacity.html"""
ENDED = "Essential container in task exited"


@dataclass(frozen=True)
class End:
    """End of an attempt: the container's exit status, and Batch's status reason."""

    status: int = 0
    reason: str = ENDED


@dataclass
class Batch:
    """Behaviour of the jobs by name.

    Attributes:
        ends: ends of a job's attempts in order; the last one repeats.
        attempts: number of attempts so far.
        outputs: what each ``plan`` job printed.
    """

    ends: dict[str, list[End]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def next_end(self, name: str, command: list[str]) -> End:
        """Return the end of the job's next attempt."""
        number = self.attempts[name] = self.attempts.get(name, 0) + 1
        if name in self.ends:
            return self.ends[name][min(number, len(self.ends[name])) - 1]
        if command[0] != "plan":
            return End()
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = run(command)
        self.outputs.append(out.getvalue() + err.getvalue())
        return End(status)


def is_retried(strategy: dict[str, Any], end: End, attempt: int) -> bool:
    """Apply Batch's retry strategy: the first matching condition decides; ``*`` at a pattern's end matches anything.

    Source: https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """
    rules = {_lower(key): value for key, value in strategy.items()}
    for rule in rules["evaluateOnExit"]:
        condition = {_lower(key): value for key, value in rule.items()}
        facts = {"onStatusReason": end.reason, "onReason": "", "onExitCode": str(end.status)}
        if all(fnmatchcase(text, condition[key]) for key, text in facts.items() if key in condition):
            return bool(condition["action"].upper() == "RETRY" and attempt < int(rules["attempts"]))
    return attempt < int(rules["attempts"])


def _lower(name: str) -> str:
    return re.sub("^.", lambda match: match[0].lower(), name)


def make_finish(batch: Batch) -> Callable[..., None]:
    """Return a replacement for moto's end of a job that runs its attempts by the job definition's retry strategy."""

    def finish(self: Any, include_start_attempt: bool, job: Any) -> None:
        self.backend._jobs[job.job_id] = job
        command = job.container_overrides["command"]
        for number in range(1, 100):
            job._start_attempt()
            end = batch.next_end(job.job_name, command)
            if end.status == 0 or not is_retried(job.job_definition.retry_strategy, end, number):
                break
        job.exit_code, job.job_stopped_reason = end.status, end.reason
        details = job._container_details
        job._container_details = lambda: details() | {"exitCode": end.status}
        job._mark_stopped(success=end.status == 0)

    return finish
