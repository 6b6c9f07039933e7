"""The state machine under moto's interpreter: plan, feature extraction, training and notifications."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.conftest import Trained
from tests.template.batch import ENDED, NO_CAPACITY, RECLAIMED, Batch, End
from tests.template.stack import Stack
from train_job.cli.plan import plan
from transferlite.registry.open_registry import Registry

PHOTOS = Callable[[int], None]
CPU = {"compute": "cpu"}


def run(machine: str, execution_input: dict[str, Any], name: str = "run") -> str:
    """Start an execution, wait for its end and return its status."""
    client = boto3.client("stepfunctions")
    started = client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(execution_input))
    for _ in range(600):
        status = client.describe_execution(executionArn=started["executionArn"])["status"]
        if status != "RUNNING":
            return str(status)
        time.sleep(0.1)
    raise AssertionError("the execution did not end within 60 s")


def jobs(stack: Stack, queue: str) -> dict[str, Any]:
    """Return the jobs in a queue by name; ``children`` is the number of an array job's children, which are left out."""
    batch = boto3.client("batch")
    ids = [job["jobId"] for job in batch.list_jobs(jobQueue=stack.ids[queue])["jobSummaryList"]]
    parents = [batch.describe_jobs(jobs=[name])["jobs"][0] for name in ids if ":" not in name]
    counts = {job["jobId"]: sum(name.startswith(f"{job['jobId']}:") for name in ids) for job in parents}
    return {job["jobName"]: job | {"children": counts[job["jobId"]]} for job in parents}


def set_photos_per_shard(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the default of ``--photos-per-shard``, which is 20,000."""
    (option,) = (parameter for parameter in plan.params if parameter.name == "photos_per_shard")
    assert option.default == 20000
    monkeypatch.setattr(option, "default", count)


def test_the_schedule_starts_one_training(stack: Stack, machine: str, photos: PHOTOS, notifications: Any) -> None:
    photos(4)
    assert run(machine, CPU) == "SUCCEEDED"
    by_name = jobs(stack, "CpuJobQueue")
    assert list(by_name) == ["check", "train"]
    command = by_name["train"]["container"]["command"]
    assert command[:3] == ["train", "--images", f"s3://{stack.outputs['DataBucketName']}/photos"]
    assert [by_name[name]["jobDefinition"] for name in by_name] == [
        stack.ids["CheckJobDefinition"],
        stack.ids["CpuJobDefinition"],
    ]
    ((subject, message),) = notifications()
    assert subject == "TransferLite: a new version is published"
    assert by_name["train"]["jobId"] in message
    assert jobs(stack, "GpuJobQueue") == {}


def test_features_of_many_new_photos_are_extracted_in_parallel(
    stack: Stack, machine: str, photos: PHOTOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_photos_per_shard(1, monkeypatch)
    photos(4)
    assert run(machine, {}) == "SUCCEEDED"  # the stack's default is a GPU
    by_name = jobs(stack, "GpuJobQueue")
    assert {name: job["children"] for name, job in by_name.items()} == {
        "await-gpu": 0,
        "extract-features": 4,
        "train": 0,
    }
    assert by_name["extract-features"]["container"]["command"][:2] == ["features", "extract"]
    assert list(jobs(stack, "CpuJobQueue")) == ["check"]


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        ("gpu", RECLAIMED),
        ("gpu", "Task failed to start"),
        ("cpu", "Your Spot Task was interrupted."),
        ("cpu", "Timeout waiting for network interface provisioning to complete."),
        ("cpu", "ResourceInitializationError: unable to pull secrets or registry auth"),
        ("cpu", "CannotPullContainerError: pull image manifest has been retried 5 time(s)"),
    ],
)
def test_causes_outside_the_job_are_retried(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, notifications: Any, compute: str, reason: str
) -> None:
    photos(4)
    batch.ends["train"] = [End(143, reason), End(143, reason), End()]
    assert run(machine, {"compute": compute}) == "SUCCEEDED"
    assert batch.attempts["train"] == 3
    assert [subject for subject, _ in notifications()] == ["TransferLite: a new version is published"]


@pytest.mark.parametrize(
    "end", [End(1), End(2), End(137, "OutOfMemoryError: Container killed due to memory usage"), End(143, ENDED)]
)
def test_a_failed_training_is_not_retried_and_sends_a_notification(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, notifications: Any, end: End
) -> None:
    photos(4)
    batch.ends["train"] = [end, End()]
    assert run(machine, CPU) == "FAILED"
    assert batch.attempts["train"] == 1
    ((subject, message),) = notifications()
    assert subject == "TransferLite: a training failed"
    assert message.startswith("States.TaskFailed: ")
    assert "still points to the previous version" in message


def test_repeated_spot_interruptions_fail_the_training(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, notifications: Any
) -> None:
    photos(4)
    batch.ends["train"] = [End(143, RECLAIMED)]
    assert run(machine, {"compute": "gpu"}) == "FAILED"
    assert batch.attempts["train"] == 5
    assert len(notifications()) == 1


def test_a_failed_feature_extraction_stops_the_training(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, notifications: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_photos_per_shard(2, monkeypatch)
    photos(4)
    batch.ends["extract-features"] = [End(1)]
    assert run(machine, CPU) == "FAILED"
    assert "train" not in jobs(stack, "CpuJobQueue")
    assert [subject for subject, _ in notifications()] == ["TransferLite: a training failed"]


@pytest.mark.parametrize(("fallback", "status"), [("cpu", "SUCCEEDED"), ("none", "FAILED")])
def test_a_cpu_trains_if_no_gpu_machine_starts(
    stack: Stack, machine: str, photos: PHOTOS, batch: Batch, notifications: Any, fallback: str, status: str
) -> None:
    photos(4)
    batch.ends["await-gpu"] = [End(1, NO_CAPACITY)]
    assert run(machine, {"compute": "gpu", "fallback": fallback}) == status
    subjects = [subject for subject, _ in notifications()]
    if fallback == "cpu":
        assert list(jobs(stack, "CpuJobQueue")) == ["check", "train"]
        assert subjects == [
            "TransferLite: training on a CPU instead of a GPU",
            "TransferLite: a new version is published",
        ]
    else:
        assert subjects == ["TransferLite: a training failed"]


def test_missing_labels_stop_the_run_before_a_gpu_starts(
    stack: Stack, machine: str, batch: Batch, notifications: Any
) -> None:
    assert run(machine, {"compute": "gpu"}) == "FAILED"
    assert list(jobs(stack, "CpuJobQueue")) == ["check"]
    assert jobs(stack, "GpuJobQueue") == {}
    assert "labels.csv: does not exist" in batch.outputs[0]
    assert [subject for subject, _ in notifications()] == ["TransferLite: a training failed"]


@pytest.mark.parametrize(
    ("status", "execution_status", "text"), [(3, "SUCCEEDED", "not promoted"), (13, "FAILED", "failed")]
)
def test_a_version_that_is_not_promoted_sends_a_notification(
    stack: Stack,
    machine: str,
    photos: PHOTOS,
    batch: Batch,
    notifications: Any,
    status: int,
    execution_status: str,
    text: str,
) -> None:
    photos(4)
    batch.ends["train"] = [End(status)]
    assert run(machine, {"compute": "cpu"}) == execution_status
    ((subject, _),) = notifications()
    assert text in subject


@pytest.mark.parametrize(("requested", "trains"), [(5, False), (4, True)])
def test_training_needs_the_requested_number_of_new_labels(
    stack: Stack, machine: str, photos: PHOTOS, notifications: Any, requested: int, trains: bool
) -> None:
    photos(4)
    assert run(machine, CPU | {"new_labels": requested}) == "SUCCEEDED"
    assert ("train" in jobs(stack, "CpuJobQueue")) is trains
    assert len(notifications()) == trains


def test_labels_of_the_newest_version_are_not_new(
    stack: Stack, machine: str, photos: PHOTOS, trained: Trained, batch: Batch
) -> None:
    photos(4)
    (version,) = Registry.open(str(trained.registry)).versions()
    folder = trained.bundle / "training"
    bucket, prefix = stack.ids["ModelBucket"], f"registry/models/{version.model_id}"
    s3, data = boto3.client("s3"), stack.outputs["DataBucketName"]
    rows = [f"s3://{data}/photos/0.jpg,a,{'0' * 64},train", f"s3://{data}/photos/1.jpg,a,{'1' * 64},train"]
    table = "\n".join(["image,label,sha256,split", *rows]) + "\n"
    assert (folder / "dataset.csv").read_text().startswith("image,label,sha256,split\n")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/training/dataset.csv", Body=table.encode())
    s3.upload_file(str(trained.bundle / "manifest.json"), bucket, f"{prefix}/manifest.json")
    assert run(machine, CPU | {"new_labels": 4}) == "SUCCEEDED"
    assert (
        "3 new labels since the newest version" in batch.outputs[0]
    )  # photo 1 has a new label; photos 2 and 3 are new
    assert "train" not in jobs(stack, "CpuJobQueue")


def test_a_second_training_waits_for_the_first(stack: Stack, machine: str, photos: PHOTOS, batch: Batch) -> None:
    photos(4)
    client = boto3.client("stepfunctions")
    definition = json.loads(client.describe_state_machine(stateMachineArn=machine)["definition"])
    definition["States"]["WaitForTurn"]["Seconds"] = 1
    definition["States"]["ApplyDefaults"]["Next"] = "Hold"
    definition["States"]["Hold"] = {  # holds the first execution in its turn for 3 s
        "Type": "Choice",
        "Choices": [{"Variable": "$.given.hold", "IsPresent": True, "Next": "Held"}],
        "Default": "AcquireTurn",
    }
    definition["States"]["Held"] = {"Type": "Wait", "Seconds": 3, "Next": "AcquireTurn"}
    client.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition))
    first = client.start_execution(stateMachineArn=machine, name="first", input='{"hold": true, "compute": "cpu"}')[
        "executionArn"
    ]
    time.sleep(0.2)
    assert run(machine, CPU, "second") == "SUCCEEDED"
    ends = [
        client.describe_execution(executionArn=arn)["stopDate"] for arn in (first, first.replace(":first", ":second"))
    ]
    assert ends[0] < ends[1]
    assert batch.attempts["train"] == 2
