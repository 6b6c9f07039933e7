from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runtime.errors import InputError
from train_job.cli import train
from train_job.features_cli import extract


def run(*options: str) -> Result:
    return CliRunner().invoke(train, ["--images", "nowhere", "--registry", "nowhere", *options])


@pytest.mark.parametrize("share", ["much", "-1%", "101%", "nan", ""])
def test_a_share_of_bad_photos_that_is_no_percentage_is_refused(share: str) -> None:
    result = run("--fail-over", share)
    assert result.exit_code == 2
    assert "--fail-over" in result.output


def test_a_split_that_is_none_is_refused() -> None:
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


def test_photos_that_are_not_there_are_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["--images", str(tmp_path / "none"), "--registry", str(tmp_path / "registry")])
    assert isinstance(result.exception, InputError)
    assert str(tmp_path / "none") in str(result.exception)


@pytest.mark.parametrize("option", ["--images", "--labels", "--x-col", "--y-col", "--split-col", "--classes"])
def test_an_extraction_takes_the_options_that_say_which_photos(option: str) -> None:
    for command in (train, extract):
        assert option in {name for parameter in command.params for name in parameter.opts}
