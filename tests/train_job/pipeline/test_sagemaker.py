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

Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Lay ``/opt/ml`` out for a job: hyperparameters, files by channel, machines."""

    def lay(
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

    return lay


def test_hyperparameters_are_options_and_channels_are_folders(lay: Lay) -> None:
    root = lay(
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


def test_without_a_registry_it_is_where_checkpoints_are_kept(lay: Lay) -> None:
    root = lay({}, {"train": ["a/1.jpg"]})
    assert "/tmp/registry" in arguments(root)
    (root / "checkpoints").mkdir()
    assert str(root / "checkpoints" / "registry") in arguments(root)


@pytest.mark.parametrize(
    ("channels", "resources", "message"),
    [
        ({"pictures": ["1.jpg"]}, {}, "there is no channel 'pictures'; name them images, train"),
        ({"labels": ["a.csv", "b.csv"]}, {}, "holds 2 files where one of labels is needed"),
        ({"images": []}, {}, "there is no such folder; is the channel's S3 prefix empty"),
        ({}, {"hosts": ["algo-1", "algo-2"]}, "a training runs on one machine, not on 2"),
    ],
)
def test_what_the_job_cannot_be_is_said_and_written_to_the_failure_file(
    lay: Lay, channels: dict[str, list[str]], resources: dict[str, Any], message: str
) -> None:
    root = lay({}, channels, **resources)
    with pytest.raises(InputError, match=message):
        arguments(root)
    assert run_job(lambda _: 0, root) == 2
    assert message in (root / "output" / "failure").read_text()


def test_a_pipe_is_refused(lay: Lay) -> None:
    root = lay({}, {"images": ["1.jpg"]})
    config = root / "input" / "config" / "inputdataconfig.json"
    config.write_text(config.read_text().replace("File", "Pipe"))
    with pytest.raises(InputError, match="the channel images is a pipe"):
        arguments(root)


def test_the_command_s_last_error_is_the_failure(lay: Lay, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay({"registry": "s3://models"}, {"images": ["1.jpg"]})

    def fail(words: Sequence[str]) -> int:
        assert words[0] == "train"
        click.echo("note: nothing of interest", err=True)
        click.echo("error: no two classes; add photos", err=True)
        return 2

    assert run_job(fail, root) == 2
    assert (root / "output" / "failure").read_text() == "error: no two classes; add photos"
    assert "no two classes" in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 3])
def test_the_version_that_was_made_is_handed_over_whole_and_no_earlier_one(
    lay: Lay, bucket: object, trained: Trained, status: int
) -> None:
    publish(f"s3://{BUCKET}/registry", trained, "20260101-000000-before")
    root = lay({"registry": f"s3://{BUCKET}/registry"}, {"images": ["1.jpg"]})

    def succeed(_: Sequence[str]) -> int:
        publish(f"s3://{BUCKET}/registry", trained, "20260102-000000-made")
        return status

    assert run_job(succeed, root) == status
    manifest = read_manifest(root / "model")
    assert manifest.model_id == "20260102-000000-made"
    check_files(root / "model", manifest.files)
    assert (root / "output" / "failure").exists() is (status == 3)


def test_the_image_s_command_trains_where_sagemaker_is_and_asks_for_options_elsewhere(
    lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["transferlite", "train"])
    monkeypatch.setattr(sagemaker, "ROOT", tmp_path)
    assert not is_here(tmp_path)
    with pytest.raises(SystemExit) as ended:
        front_door.main()
    assert ended.value.code == 2
    assert "Missing option '--images'" in capsys.readouterr().err


def test_a_job_of_sagemaker_trains_and_leaves_its_model(lay: Lay) -> None:
    root = lay({"image-size": "64", "epochs": "3", "backbone": "mobilenet_v3_small", "weights": "none"}, {"train": []})
    write_folders(root / "input" / "data" / "train", 6)
    (root / "checkpoints").mkdir()
    assert run_job(front_door.run, root) == 0
    manifest = read_manifest(root / "model")
    assert manifest.labels == ("blue", "red")
    assert (root / "model" / "saved_model" / "1" / "saved_model.pb").is_file()
    assert not (root / "output" / "failure").exists()
