from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from train_job.cli.features import extract
from train_job.cli.train import train
from train_job.options import TrainOptions
from transferlite.errors import InputError


def run(*options: str) -> Result:
    return CliRunner().invoke(train, ["--images", "nowhere", "--registry", "nowhere", *options])


@pytest.mark.parametrize("share", ["much", "-1%", "101%", "nan", ""])
def test_a_fail_over_that_is_no_percentage_is_refused(share: str) -> None:
    result = run("--fail-over", share)
    assert result.exit_code == 2
    assert "--fail-over" in result.output


def test_an_invalid_split_is_refused() -> None:
    assert isinstance(run("--split", "80/20").exception, InputError)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--backbone", "vgg16"),
        ("--image-size", "16"),
        ("--image-size", "0"),
        ("--epochs", "0"),
        ("--batch-size", "-5"),
        ("--steps-per-epoch", "0"),
        ("--hidden-units", "0"),
        ("--learning-rate", "fast"),
        ("--seed", "-1"),
        ("--learning-rate", "-1"),
        ("--learning-rate", "nan"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_option(option: str, value: str) -> None:
    result = run(option, value)
    assert result.exit_code == 2
    assert option in result.output


class CapturedOptionsError(Exception):
    """Raised with the options instead of running the job."""


def limits_of(monkeypatch: pytest.MonkeyPatch, *options: str) -> object:
    from train_job.pipeline.export_variants import gate_limits

    def job(options: TrainOptions, *_: object) -> None:
        raise CapturedOptionsError(options)

    monkeypatch.setattr("train_job.pipeline.train_job.train", job)
    error = run(*options).exception
    assert isinstance(error, CapturedOptionsError)
    return gate_limits(error.args[0])


def test_the_gate_limits_are_those_of_the_options_or_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    from export.gate.limits import ROUNDED_LIMITS, GateLimits

    assert vars(limits_of(monkeypatch)) == pytest.approx(vars(ROUNDED_LIMITS))  # 1 - 0.95 is not quite 0.05
    words = [
        "--max-accuracy-drop",
        "2%",
        "--max-recall-drop",
        "20%",
        "--min-agreement",
        "75%",
        "--max-difference",
        "0.3",
    ]
    assert limits_of(monkeypatch, *words) == GateLimits(0.3, 0.02, 0.2, 0.25)


def test_missing_photos_are_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["--images", str(tmp_path / "none"), "--registry", str(tmp_path / "registry")])
    assert isinstance(result.exception, InputError)
    assert str(tmp_path / "none") in str(result.exception)


@pytest.mark.parametrize("option", ["--images", "--labels", "--x-col", "--y-col", "--split-col", "--classes"])
def test_an_extraction_takes_the_options_of_the_photos(option: str) -> None:
    for command in (train, extract):
        assert option in {name for parameter in command.params for name in parameter.opts}
