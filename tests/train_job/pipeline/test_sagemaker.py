import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import BUCKET, Trained
from tests.inference_lambda.models import publish
from tests.pictures import write_folders
from train_job.pipeline import sagemaker
from train_job.pipeline.sagemaker import arguments, is_here, run_job
from transferlite.cli import main as front_door
from transferlite.errors import InputError
from transferlite.registry.local_bundle import check_files, read_manifest

WriteJob = Callable[..., Path]


@pytest.fixture
def write_job(tmp_path: Path) -> WriteJob:
    """Function that writes ``/opt/ml`` as SageMaker does: hyperparameters, files by channel, machines."""

    def write_job(
        hyperparameters: dict[str, str] | None = None, channels: dict[str, list[str]] | None = None, **resources: Any
    ) -> Path:
        config = tmp_path / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters or {}))
        (config / "resourceconfig.json").write_text(json.dumps({"hosts": ["algo-1"]} | resources))
        inputs = {
            name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} for name in channels or {}
        }
        (config / "inputdataconfig.json").write_text(json.dumps(inputs))
        for name, files in (channels or {}).items():
            for file in files:
                path = tmp_path / "input" / "data" / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return tmp_path

    return write_job


def test_hyperparameters_become_options_and_channels_become_folders(write_job: WriteJob) -> None:
    root = write_job(
        {
            "epochs": "20",
            "learning_rate": "0.001",
            "backbone": '"mobilenet_v2"',
            "registry": "s3://models",
            "keep-best": "true",
            "warm_start": "false",
            "sagemaker_program": "ours.py",
        },
        {"training": ["a/1.jpg"], "labels": ["deep/labels.csv"], "test": ["b/2.jpg"]},
    )
    data = root / "input" / "data"
    assert arguments(root) == [
        *["--backbone", "mobilenet_v2"],
        *["--epochs", "20"],
        *["--images", str(data / "training")],
        *["--labels", str(data / "labels" / "deep" / "labels.csv")],
        *["--learning-rate", "0.001"],
        *["--registry", "s3://models"],
        *["--test-images", str(data / "test")],
        "--keep-best",
    ]


def test_the_default_registry_is_in_the_checkpoints_folder(write_job: WriteJob) -> None:
    root = write_job({}, {"train": ["a/1.jpg"]})
    assert "/tmp/registry" in arguments(root)
    (root / "checkpoints").mkdir()
    assert str(root / "checkpoints" / "registry") in arguments(root)


@pytest.mark.parametrize(
    ("channels", "resources", "message"),
    [
        ({"pictures": ["1.jpg"]}, {}, "unknown channel 'pictures'; known: images, train"),
        ({"labels": ["a.csv", "b.csv"]}, {}, "holds 2 files instead of a single file of labels"),
        ({"images": []}, {}, "there is no such folder; is the channel's S3 prefix empty"),
        ({}, {"hosts": ["algo-1", "algo-2"]}, "a training job runs on one machine, not on 2"),
    ],
)
def test_invalid_jobs_are_rejected_and_the_reason_is_in_the_failure_file(
    write_job: WriteJob, channels: dict[str, list[str]], resources: dict[str, Any], message: str
) -> None:
    root = write_job({}, channels, **resources)
    with pytest.raises(InputError, match=message):
        arguments(root)
    assert run_job(lambda _: 0, root) == 2
    assert message in (root / "output" / "failure").read_text()


def test_pipe_mode_is_rejected(write_job: WriteJob) -> None:
    root = write_job({}, {"images": ["1.jpg"]})
    config = root / "input" / "config" / "inputdataconfig.json"
    config.write_text(config.read_text().replace("File", "Pipe"))
    with pytest.raises(InputError, match="the channel images is in Pipe mode"):
        arguments(root)


def test_the_last_error_of_the_command_is_in_the_failure_file(
    write_job: WriteJob, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_job({"registry": "s3://models"}, {"images": ["1.jpg"]})

    def fail(words: Sequence[str]) -> int:
        assert words[0] == "train"
        click.echo("note: nothing of interest", err=True)
        click.echo("error: no two classes; add photos", err=True)
        return 2

    assert run_job(fail, root) == 2
    assert (root / "output" / "failure").read_text() == "error: no two classes; add photos"
    assert "no two classes" in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 3])
def test_the_new_version_is_copied_to_the_model_folder_and_no_earlier_one(
    write_job: WriteJob, bucket: object, trained: Trained, status: int
) -> None:
    publish(f"s3://{BUCKET}/registry", trained, "20260101-000000-before")
    root = write_job({"registry": f"s3://{BUCKET}/registry"}, {"images": ["1.jpg"]})

    def succeed(_: Sequence[str]) -> int:
        publish(f"s3://{BUCKET}/registry", trained, "20260102-000000-made")
        return status

    assert run_job(succeed, root) == status
    manifest = read_manifest(root / "model")
    assert manifest.model_id == "20260102-000000-made"
    check_files(root / "model", manifest.files)
    assert (root / "output" / "failure").exists() is (status == 3)


def test_outside_sagemaker_the_command_requires_options(
    write_job: WriteJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["transferlite", "train"])
    monkeypatch.setattr(sagemaker, "ROOT", tmp_path)
    assert not is_here(tmp_path)
    with pytest.raises(SystemExit) as ended:
        front_door.main()
    assert ended.value.code == 2
    assert "Missing option '--images'" in capsys.readouterr().err


def test_a_sagemaker_job_trains_and_writes_its_model(write_job: WriteJob) -> None:
    root = write_job(
        {
            "image-size": "64",
            "epochs": "3",
            "backbone": "mobilenet_v3_small",
            "weights": "none",
            "promote": "always",
        },
        {"train": []},
    )
    write_folders(root / "input" / "data" / "train", 6)
    (root / "checkpoints").mkdir()
    assert run_job(front_door.run, root) == 0
    manifest = read_manifest(root / "model")
    assert manifest.labels == ("blue", "red")
    assert (root / "model" / "saved_model" / "1" / "saved_model.pb").is_file()
    assert not (root / "output" / "failure").exists()
