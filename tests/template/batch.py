"""AWS Batch in moto, whose jobs only seem to run: here ``plan`` really runs, and others end as the test says."""

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
ENDED = "Essential container in task exited"


@dataclass(frozen=True)
class End:
    """How an attempt of a job ends: its container's exit status, and the reason that Batch gives of it."""

    status: int = 0
    reason: str = ENDED


@dataclass
class Batch:
    """What each job does, by its name: the ends of its attempts in order, the last for all that come after."""

    ends: dict[str, list[End]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    says: list[str] = field(default_factory=list)

    def end_of(self, name: str, command: list[str]) -> End:
        """The end of the job's next attempt."""
        number = self.attempts[name] = self.attempts.get(name, 0) + 1
        if name in self.ends:
            return self.ends[name][min(number, len(self.ends[name])) - 1]
        if command[0] != "plan":
            return End()
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = run(command)
        self.says.append(out.getvalue() + err.getvalue())
        return End(status)


def is_tried_again(strategy: dict[str, Any], end: End, attempt: int) -> bool:
    """Batch's own rules: the first condition that matches decides; ``*`` stands for anything at a pattern's end.

    Source: https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """
    rules = {_lower(key): value for key, value in strategy.items()}
    for rule in rules["evaluateOnExit"]:
        one = {_lower(key): value for key, value in rule.items()}
        wanted = {"onStatusReason": end.reason, "onReason": "", "onExitCode": str(end.status)}
        if all(fnmatchcase(text, one[key]) for key, text in wanted.items() if key in one):
            return bool(one["action"].upper() == "RETRY" and attempt < int(rules["attempts"]))
    return attempt < int(rules["attempts"])


def _lower(name: str) -> str:
    return re.sub("^.", lambda found: found[0].lower(), name)


def finisher(batch: Batch) -> Callable[..., None]:
    """What stands in for moto's end of a job: the attempts, by the rules of the job's definition."""

    def finish(self: Any, include_start_attempt: bool, job: Any) -> None:
        self.backend._jobs[job.job_id] = job
        command = job.container_overrides["command"]
        for number in range(1, 100):
            job._start_attempt()
            end = batch.end_of(job.job_name, command)
            if end.status == 0 or not is_tried_again(job.job_definition.retry_strategy, end, number):
                break
        job.exit_code, job.job_stopped_reason = end.status, end.reason
        details = job._container_details
        job._container_details = lambda: details() | {"exitCode": end.status}
        job._mark_stopped(success=end.status == 0)

    return finish
