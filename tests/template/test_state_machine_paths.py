"""Every path through the training's state machine, with every way that a task can end, timeouts included."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from tests.template.batch import NO_CAPACITY
from tests.template.interpreter import Execution, HangError, StateError
from tests.template.stack import DEFINITION

VALUES = {
    "Partition": "aws",
    "Compute": "cpu",
    "ComputeFallback": "cpu",
    "GpuWaitSeconds": "3600",
    "JobSeconds": "86400",
    "Shards": "16",
    "CpuQueue": "cpu-queue",
    "GpuQueue": "gpu-queue",
}
ME, OTHER = "arn:execution:me", "arn:execution:other"
CONTEXT = {"Execution": {"Id": ME, "Name": "me"}, "StateMachine": {"Id": "arn:machine"}}
PUBLISHED, REFUSED = "TransferLite: a new version is published", "TransferLite: a new version is not promoted"
FAILED, FALLBACK = "TransferLite: a training failed", "TransferLite: training on a CPU instead of a GPU"


@cache
def definition(**values: str) -> Any:
    """Return the definition with substitutions; those that a test does not name are their own names."""
    known = VALUES | values
    return json.loads(re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], match[1]), DEFINITION.read_text()))


def job_failed(status: int | None, reason: str) -> StateError:
    """Return the error of a job, whose cause is Batch's description of it as JSON."""
    container = {} if status is None else {"ExitCode": status}
    return StateError("States.TaskFailed", json.dumps({"Container": container, "StatusReason": reason}))


THROTTLED = StateError("Batch.BatchException", "Too many requests")
JOB_ENDS: dict[str, Any] = {
    "ok": {"JobId": "job-1"},
    "failed": job_failed(1, "Essential container in task exited"),
    "cancelled": job_failed(None, NO_CAPACITY),
    "hangs": HangError(),
    "throttled once": [THROTTLED, {"JobId": "job-1"}],
    "throttled": THROTTLED,
}
CALL_FAILED = StateError("S3.S3Exception", "Service unavailable")
NOTICE_ENDS: dict[str, Any] = {
    "ok": {"MessageId": "1"},
    "failed": StateError("SNS.SnsException", "Service unavailable"),
}
PLANS = {f"{go} {shards}": {"Body": json.dumps({"go": go, "shards": shards})} for go, shards in ((True, 1), (True, 2))}
ENDS: dict[str, dict[str, Any]] = {
    "AcquireTurn": {
        "mine": {"Executions": [{"ExecutionArn": ME}]},
        "other's": [
            {"Executions": [{"ExecutionArn": ME}, {"ExecutionArn": OTHER}]},
            {"Executions": [{"ExecutionArn": ME}]},
        ],
        "failed": CALL_FAILED,
        "hangs": HangError(),
    },
    "CheckData": JOB_ENDS,
    "ReadPlan": PLANS
    | {
        "no": {"Body": '{"go": false, "shards": 1}'},
        "failed": CALL_FAILED,
        "failed once": [CALL_FAILED, PLANS["True 1"]],
    },
    "AwaitGpu": JOB_ENDS,
    "ExtractFeatures": JOB_ENDS,
    "Train": JOB_ENDS | {"refused": job_failed(3, "Essential container in task exited")},
    "NotifyFallback": NOTICE_ENDS,
    "NotifyNewVersion": {"ok": {"MessageId": "1"}},
    "NotifyRefusal": {"ok": {"MessageId": "1"}},
    "NotifyFailure": {"ok": {"MessageId": "1"}},
}
"""Ends of each task; a list has the end of each attempt, and its last one repeats."""


@dataclass
class World:
    """AWS in one execution: ``script`` chooses the end of each visit to a task; notices and jobs are recorded."""

    script: list[str]
    chosen: list[tuple[str, str]] = field(default_factory=list)
    visit: dict[str, Iterator[Any]] = field(default_factory=dict)
    notices: list[tuple[str, str]] = field(default_factory=list)
    jobs: list[tuple[str, str]] = field(default_factory=list)
    open_choice: str = ""

    def run_task(self, name: str, resource: str, parameters: Any) -> Any:
        """Run a task as the script says. Raises LookupError at its end, where a choice is open."""
        if name not in self.visit:
            self.visit[name] = self._ends(name)
        end = next(self.visit[name])
        if resource.endswith(":batch:submitJob.sync") and not _is_throttled(end):
            self.jobs.append((parameters["JobName"], parameters["JobQueue"]))
        if resource.endswith(":sns:publish") and not isinstance(end, StateError):
            self.notices.append((parameters["Subject"], parameters["Message"]))
        if isinstance(end, Exception):
            raise end
        return end

    def _ends(self, name: str) -> Iterator[Any]:
        number = len(self.chosen)
        if number == len(self.script):
            self.open_choice = name
            raise _OpenChoiceError
        self.chosen.append((name, self.script[number]))
        end = ENDS[name][self.script[number]]
        ends = end if isinstance(end, list) else [end]
        yield from ends
        while True:
            yield ends[-1]


class _OpenChoiceError(Exception):
    """The script has no end for a task."""


def _is_throttled(end: Any) -> bool:
    return end is THROTTLED


@dataclass(frozen=True)
class Played:
    """A whole execution: its input, and the ends of its tasks."""

    given: dict[str, Any]
    world: World
    execution: Execution

    @property
    def ends(self) -> dict[str, str]:
        return dict(self.world.chosen)

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.world.notices]


def play(given: dict[str, Any], script: list[str], **values: str) -> Played:
    world = World(script)
    execution = Execution(definition(**values), world.run_task, CONTEXT)
    return Played(given, world, execution.run(dict(given)))


def every_path(given: dict[str, Any], **values: str) -> Iterator[Played]:
    """Play the machine with every combination of ends, depth first."""
    scripts: list[list[str]] = [[]]
    while scripts:
        script = scripts.pop()
        world = World(script)
        execution = Execution(definition(**values), world.run_task, CONTEXT)
        try:
            yield Played(given, world, execution.run(dict(given)))
        except _OpenChoiceError:
            scripts += [[*script, end] for end in ENDS[world.open_choice]]


INPUTS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"compute": "gpu"}, {}),
    ({"compute": "gpu", "fallback": "none"}, {}),
    ({"compute": "gpu"}, {"GpuQueue": "none"}),
    ({"compute": "gpu", "fallback": "none", "new_labels": 5}, {"GpuQueue": "none"}),
]
"""Inputs of executions, and the substitutions of their stack."""


@pytest.fixture(scope="module")
def played() -> list[Played]:
    return [one for given, values in INPUTS for one in every_path(given, **values)]


def select(played: list[Played], holds: Callable[[Played], bool]) -> list[Played]:
    chosen = [one for one in played if holds(one)]
    assert chosen
    return chosen


def test_every_execution_ends_and_sends_one_final_notice(played: list[Played]) -> None:
    assert len(played) > 1000
    for one in played:
        final = [subject for subject in one.subjects if subject != FALLBACK]
        if one.execution.path[-1] == "NothingToDo":
            assert final == []
        else:
            assert final in ([PUBLISHED], [REFUSED], [FAILED]), one.world.chosen
        assert one.execution.status == ("FAILED" if final == [FAILED] else "SUCCEEDED")


def test_a_published_or_refused_version_is_never_reported_as_another_end(played: list[Played]) -> None:
    for one in select(played, lambda one: "Train" in one.ends):
        expected = {"ok": PUBLISHED, "throttled once": PUBLISHED, "refused": REFUSED}.get(one.ends["Train"], FAILED)
        if one.ends["Train"] != "cancelled" or FALLBACK not in one.subjects:
            assert one.subjects[-1] == expected, one.world.chosen


def test_no_execution_waits_longer_than_its_limits(played: list[Played]) -> None:
    limit = definition()["TimeoutSeconds"]
    longest = max(one.execution.seconds for one in played)
    hours = longest / 3600
    assert longest < limit, f"{hours:.0f} h"
    for one in select(played, lambda one: "hangs" in one.ends.values()):
        assert one.execution.status == "FAILED" or one.ends["AwaitGpu"] == "hangs"


def test_a_timeout_without_a_cause_is_reported(played: list[Played]) -> None:
    for one in select(played, lambda one: one.ends.get("Train") == "hangs"):
        assert "States.Timeout: no end in time" in one.world.notices[-1][1]


def test_without_a_gpu_machine_a_cpu_trains_if_allowed(played: list[Played]) -> None:
    stuck = select(played, lambda one: one.ends.get("AwaitGpu") in {"cancelled", "hangs", "failed"})
    for one in stuck:
        queues = {queue for name, queue in one.world.jobs if name in {"extract-features", "train"}}
        if one.given.get("fallback") == "none":
            assert (queues, one.subjects) == (set(), [FAILED])
        else:
            assert queues == {"cpu-queue"} or "throttled" in one.ends.values()
            assert one.subjects[0] == FALLBACK or one.ends["NotifyFallback"] == "failed"


def test_a_cancelled_gpu_job_is_repeated_once_on_a_cpu(played: list[Played]) -> None:
    def lost(one: Played) -> bool:
        return one.ends.get("AwaitGpu") == "ok" and one.ends.get("ExtractFeatures") == "cancelled"

    for one in select(played, lost):
        jobs = [job for job in one.world.jobs if job[0] == "extract-features"]
        queues = ["gpu-queue"] if one.given.get("fallback") == "none" else ["gpu-queue", "cpu-queue"]
        assert [queue for _, queue in jobs] == queues


def test_a_stack_without_gpus_never_submits_to_their_queue() -> None:
    for one in every_path({"compute": "gpu"}, GpuQueue="none"):
        assert {queue for _, queue in one.world.jobs} <= {"cpu-queue"}
        assert "await-gpu" not in {name for name, _ in one.world.jobs}


def test_the_ends_cover_every_state_and_every_transition(played: list[Played]) -> None:
    states = definition()["States"]
    known = {(name, following) for name, state in states.items() for following in _followers(state)}
    seen = {pair for one in played for pair in zip(one.execution.path, one.execution.path[1:], strict=False)}
    assert known - seen == set()
    assert {name for one in played for name in one.execution.path} == set(states)


def _followers(state: Any) -> set[str]:
    rules = [state, *state.get("Choices", ()), *state.get("Catch", ())]
    return {rule[key] for rule in rules for key in ("Next", "Default") if key in rule}


def test_an_execution_that_never_gets_its_turn_times_out() -> None:
    def task(_name: str, _resource: str, _parameters: Any) -> Any:
        return {"Executions": [{"ExecutionArn": ME}, {"ExecutionArn": OTHER}]}

    execution = Execution(definition(), task, CONTEXT).run({})
    assert execution.status == "TIMED_OUT"
    assert execution.seconds == pytest.approx(definition()["TimeoutSeconds"], abs=301)


def test_every_task_has_a_timeout() -> None:
    for name, state in definition()["States"].items():
        assert state["Type"] != "Task" or {"TimeoutSeconds", "TimeoutSecondsPath"} & state.keys(), name
