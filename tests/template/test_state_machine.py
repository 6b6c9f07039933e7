"""The state machine run by an interpreter: what is new is asked first, then rows, training, and what is told."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.conftest import Trained
from tests.template.batch import ENDED, RECLAIMED, Batch, End
from tests.template.stack import Stack
from train_job.cli.plan import plan
from transferlite.registry.open_registry import Registry

PHOTOS = Callable[[int], None]


def run(machine: str, given: dict[str, Any], name: str = "run") -> str:
    """Start it and wait; returns how it ended."""
    client = boto3.client("stepfunctions")
    started = client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(given))
    for _ in range(600):
        status = client.describe_execution(executionArn=started["executionArn"])["status"]
        if status != "RUNNING":
            return str(status)
        time.sleep(0.1)
    raise AssertionError("the execution does not end")


def jobs(stack: Stack, queue: str) -> dict[str, Any]:
    """The jobs in a queue by name; each has the number of its ``children``, which are jobs as well, not listed here."""
    batch = boto3.client("batch")
    ids = [one["jobId"] for one in batch.list_jobs(jobQueue=stack.ids[queue])["jobSummaryList"]]
    found = [batch.describe_jobs(jobs=[name])["jobs"][0] for name in ids if ":" not in name]
    counts = {job["jobId"]: sum(name.startswith(f"{job['jobId']}:") for name in ids) for job in found}
    return {job["jobName"]: job | {"children": counts[job["jobId"]]} for job in found}


def machines_are_worth_it_from_so_many_photos(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option that says how many new photos a machine takes, which are 20,000."""
    (option,) = (one for one in plan.params if one.name == "photos_per_shard")
    assert option.default == 20000
    monkeypatch.setattr(option, "default", count)


@pytest.mark.parametrize("given", [{"compute": "cpu"}, {}])
def test_what_the_schedule_starts_is_one_training(
    stack: Stack, machine: str, photos: PHOTOS, told: Any, given: dict[str, Any]
) -> None:
    photos(4)
    assert run(machine, given) == "SUCCEEDED"
    found = jobs(stack, "CpuJobQueue")
    assert list(found) == ["check", "train"]
    command = found["train"]["container"]["command"]
    assert command[:3] == ["train", "--images", f"s3://{stack.outputs['DataBucketName']}/photos"]
    assert [found[name]["jobDefinition"] for name in found] == [stack.ids["CheckJobDefinition"], stack.ids["CpuJobDefinition"]]
    ((subject, message),) = told()
    assert subject == "TransferLite: a new version is published"
    assert found["train"]["jobId"] in message
    assert jobs(stack, "GpuJobQueue") == {}


def test_many_new_photos_are_shared_out_before_they_are_trained_on(
    stack: Stack, machine: str, photos: PHOTOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines_are_worth_it_from_so_many_photos(1, monkeypatch)
    photos(4)
    assert run(machine, {"compute": "gpu"}) == "SUCCEEDED"
    found = jobs(stack, "GpuJobQueue")
    assert {name: job["children"] for name, job in found.items()} == {"extract-features": 4, "train": 0}
    assert found["extract-features"]["container"]["command"][:2] == ["features", "extract"]
    assert list(jobs(stack, "CpuJobQueue")) == ["check"]


@pytest.mark.parametrize("reason", [RECLAIMED, "Your Spot Task was interrupted."])
def test_a_reclaimed_machine_is_one_more_attempt_and_no_failure(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, told: Any, reason: str
) -> None:
    photos(4)
    batch.ends["train"] = [End(143, reason), End(143, reason), End()]
    assert run(machine, {"compute": "gpu"}) == "SUCCEEDED"
    assert batch.attempts["train"] == 3
    assert [subject for subject, _ in told()] == ["TransferLite: a new version is published"]


@pytest.mark.parametrize(
    "end", [End(1), End(2), End(137, "OutOfMemoryError: Container killed due to memory usage"), End(143, ENDED)]
)
def test_a_training_that_fails_is_not_tried_again_and_told(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, told: Any, end: End
) -> None:
    photos(4)
    batch.ends["train"] = [end, End()]
    assert run(machine, {}) == "FAILED"
    assert batch.attempts["train"] == 1
    ((subject, message),) = told()
    assert subject == "TransferLite: a training failed"
    assert message.startswith("States.TaskFailed: ")
    assert "has not changed" in message


def test_a_machine_that_is_always_reclaimed_is_a_failure_in_the_end(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, told: Any
) -> None:
    photos(4)
    batch.ends["train"] = [End(143, RECLAIMED)]
    assert run(machine, {}) == "FAILED"
    assert batch.attempts["train"] == 5
    assert len(told()) == 1


def test_nothing_is_trained_on_rows_that_are_not_there(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines_are_worth_it_from_so_many_photos(2, monkeypatch)
    photos(4)
    batch.ends["extract-features"] = [End(1)]
    assert run(machine, {}) == "FAILED"
    assert "train" not in jobs(stack, "CpuJobQueue")
    assert [subject for subject, _ in told()] == ["TransferLite: a training failed"]


def test_labels_that_are_not_there_stop_it_before_a_machine_is_paid_for(
    stack: Stack, machine: str, batch: Batch, told: Any
) -> None:
    assert run(machine, {"compute": "gpu"}) == "FAILED"
    assert list(jobs(stack, "CpuJobQueue")) == ["check"]
    assert jobs(stack, "GpuJobQueue") == {}
    assert "labels.csv: does not exist" in batch.says[0]
    assert [subject for subject, _ in told()] == ["TransferLite: a training failed"]


@pytest.mark.parametrize(("status", "ends", "says"), [(3, "SUCCEEDED", "not promoted"), (13, "FAILED", "failed")])
def test_a_version_that_is_refused_is_told_and_is_no_failure(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, told: Any, status: int, ends: str, says: str
) -> None:
    photos(4)
    batch.ends["train"] = [End(status)]
    assert run(machine, {"compute": "cpu"}) == ends
    ((subject, _),) = told()
    assert says in subject


@pytest.mark.parametrize(("asked", "trains"), [(5, False), (4, True)])
def test_it_trains_only_when_so_many_labels_are_new(
    stack: Stack, machine: str, photos: PHOTOS, told: Any, asked: int, trains: bool
) -> None:
    photos(4)
    assert run(machine, {"new_labels": asked}) == "SUCCEEDED"
    assert ("train" in jobs(stack, "CpuJobQueue")) is trains
    assert len(told()) == trains


def test_labels_that_the_newest_version_learnt_are_not_new(
    stack: Stack, machine: str, photos: PHOTOS, trained: Trained, batch: Batch
) -> None:
    photos(4)
    (version,) = Registry.open(str(trained.registry)).versions()
    folder = trained.bundle / "training"
    bucket, prefix = stack.ids["ModelBucket"], f"registry/models/{version.model_id}"
    s3, data = boto3.client("s3"), stack.outputs["DataBucketName"]
    learnt = [f"s3://{data}/photos/0.jpg,a,{'0' * 64},train", f"s3://{data}/photos/1.jpg,a,{'1' * 64},train"]
    table = "\n".join(["image,label,sha256,split", *learnt]) + "\n"
    assert (folder / "dataset.csv").read_text().startswith("image,label,sha256,split\n")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/training/dataset.csv", Body=table.encode())
    s3.upload_file(str(trained.bundle / "manifest.json"), bucket, f"{prefix}/manifest.json")
    assert run(machine, {"new_labels": 4}) == "SUCCEEDED"
    assert "3 labels are new" in batch.says[0]  # photo 1 is now a b; 2 and 3 were not there
    assert "train" not in jobs(stack, "CpuJobQueue")


def test_a_second_training_waits_for_the_first(stack: Stack, machine: str, photos: PHOTOS, batch: Batch) -> None:
    photos(4)
    client = boto3.client("stepfunctions")
    definition = json.loads(client.describe_state_machine(stateMachineArn=machine)["definition"])
    definition["States"]["WaitForTurn"]["Seconds"] = 1
    definition["States"]["ApplyDefaults"]["Next"] = "Hold"
    definition["States"]["Hold"] = {  # the first is held in its turn for as long as its input says
        "Type": "Choice",
        "Choices": [{"Variable": "$.given.hold", "IsPresent": True, "Next": "Held"}],
        "Default": "AcquireTurn",
    }
    definition["States"]["Held"] = {"Type": "Wait", "Seconds": 3, "Next": "AcquireTurn"}
    client.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition))
    first = client.start_execution(stateMachineArn=machine, name="first", input='{"hold": true}')["executionArn"]
    time.sleep(0.2)
    assert run(machine, {}, "second") == "SUCCEEDED"
    ends = [
        client.describe_execution(executionArn=one)["stopDate"] for one in (first, first.replace(":first", ":second"))
    ]
    assert ends[0] < ends[1]
    assert batch.attempts["train"] == 2
