"""An option that does not apply is refused by every command, and so are empty values and numbers that are none."""

from pathlib import Path

import pytest

from transferlite.cli.main import COMMANDS, run

Out = pytest.CaptureFixture[str]

PREDICT = ["predict", "x.jpg"]
EXPLAIN = ["explain", "x.jpg", "--out", "heat.png"]
TRAIN = ["train", "--images", "photos", "--registry", "r"]
UNUSED = [
    ([*PREDICT, "--bundle", "b", "--model", "V1"], "--model needs --registry"),
    ([*PREDICT, "--bundle", "b", "--channel", "staging"], "--channel needs --registry"),
    ([*PREDICT, "--bundle", "b", "--channel", "production"], "--channel needs --registry"),
    ([*PREDICT, "--bundle", "b", "--labels", "l.txt"], "--labels needs --model FILE.tflite"),
    ([*PREDICT, "--registry", "r", "--mean", "0"], "--mean needs --model FILE.tflite"),
    ([*PREDICT, "--registry", "r", "--std", "1"], "--std needs --model FILE.tflite"),
    ([*PREDICT, "--registry", "r", "--model", "V1", "--channel", "staging"], "--channel does not apply to --model"),
    ([*PREDICT, "--model", "m.tflite", "--variant", "int8"], "--variant does not apply to --model FILE.tflite"),
    ([*PREDICT, "--model", "m.tflite", "--channel", "c"], "--channel does not apply to --model FILE.tflite"),
    ([*PREDICT, "--bundle", "b", "--every", "2"], "--every needs --watch or --camera"),
    (["predict", "--camera", "0", "--watch", "--bundle", "b"], "--watch does not apply to --camera"),
    ([*EXPLAIN, "--bundle", "b", "--model", "V1"], "--model needs --registry"),
    ([*EXPLAIN, "--bundle", "b", "--channel", "staging"], "--channel needs --registry"),
    ([*EXPLAIN, "--model", "m.tflite", "--variant", "int8"], "--variant does not apply"),
    (["models", "show", "V1", "--registry", "r", "--channel", "c"], "--channel does not apply to MODEL_ID"),
    (["models", "sign", "V1", "--registry", "r", "--channel", "c"], "--channel does not apply to MODEL_ID"),
    (
        ["models", "pull", "--registry", "r", "--dest", "d", "--model", "V1", "--channel", "c"],
        "--channel does not apply",
    ),
    (["report", "V1", "--registry", "r", "--channel", "c"], "--channel does not apply to MODEL_ID"),
    (["edge", "run", "--registry", "r", "--dest", "d", "--once", "--poll", "2h"], "--poll does not apply to --once"),
    (["serve", "--bundle", "b", "--channel", "c"], "--channel needs --registry"),
    (["serve", "--bundle", "b", "--refresh", "1"], "--refresh needs --registry"),
    (["cloud", "deploy", "--code-bucket", "b"], "--code-bucket needs a local --function-zip"),
    (["cloud", "deploy", "--function-zip", "s3://b/k", "--code-bucket", "b"], "--code-bucket needs a local"),
    (["cloud", "run", "--detach", "--open"], "--open does not apply to --detach"),
    ([*TRAIN, "--x-col", "file"], "--x-col needs --labels"),
    ([*TRAIN, "--y-col", "class"], "--y-col needs --labels"),
    ([*TRAIN, "--split-col", "split"], "--split-col needs --labels"),
    ([*TRAIN, "--test-labels", "l.csv"], "--test-labels needs --test-images"),
    ([*TRAIN, "--views", "4"], "--views needs --augment"),
    ([*TRAIN, "--fine-tune-epochs", "4"], "--fine-tune-epochs needs --fine-tune-from"),
    ([*TRAIN, "--fine-tune-learning-rate", "0.1"], "--fine-tune-learning-rate needs --fine-tune-from"),
    (["check", "--images", "photos", "--test-labels", "l.csv"], "--test-labels needs --test-images"),
    (["plan", "--images", "photos", "--registry", "r", "--y-col", "class"], "--y-col needs --labels"),
    (["features", "extract", "--images", "p", "--features", "f", "--views", "2"], "--views needs --augment"),
]


@pytest.mark.parametrize(("words", "message"), UNUSED)
def test_an_option_that_does_not_apply_is_refused(
    words: list[str], message: str, capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


EMPTY = [
    ["predict", "x.jpg", "--bundle", ""],
    ["predict", "x.jpg", "--registry", ""],
    ["predict", "x.jpg", "--registry="],
    ["predict", "", "--bundle", "b"],
    ["predict", "x.jpg", "--bundle", "b", "--out", ""],
    ["explain", "x.jpg", "--bundle", "b", "--out", " "],
    ["models", "list", "--registry", ""],
    ["models", "pull", "--registry", "r", "--dest", ""],
    ["models", "pull", "--registry", "r", "--dest", "d", "--model", ""],
    ["models", "pull", "--registry", "r", "--dest", "d", "--variants", ""],
    ["models", "promote", "", "--registry", "r"],
    ["models", "share", "--registry", "r", "--out="],
    ["report", "--registry", "r", "--dest", ""],
    ["edge", "run", "--registry", "", "--dest", "d"],
    ["edge", "run", "--registry", "r", "--dest", "", "--once"],
    ["edge", "bench", "--bundle", "", "--threads", "1"],
    ["drift", "--predictions", "", "--registry", "r"],
    ["export", "web", "--bundle", "b", "--dest", ""],
    ["export", "check", ""],
    ["serve", "--registry", ""],
    ["keys", "create", ""],
    ["train", "--images", "", "--registry", "r"],
    ["train", "--images", "photos", "--registry", ""],
    ["check", "--images", "photos", "--out", ""],
    ["package", "device", "--dest", ""],
    ["demo", "--out", ""],
    ["cloud", "deploy", "--template", ""],
]


@pytest.mark.parametrize("words", EMPTY)
def test_an_empty_value_is_refused(
    words: list[str], capsys: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    assert "is a variable unset?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_command_refuses_an_empty_argument() -> None:
    assert {run([name, ""]) for name in COMMANDS} == {2}


def test_an_empty_split_column_means_none(tmp_path: Path, capsys: Out) -> None:
    words = ["check", "--images", str(tmp_path), "--labels", str(tmp_path / "none.csv"), "--out", str(tmp_path)]
    assert run([*words, "--split-col", ""]) == 2
    assert "is a variable unset?" not in capsys.readouterr().err


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "1e999", "x"])
@pytest.mark.parametrize(
    "words",
    [
        ["predict", "x", "--watch", "--bundle", "b", "--every"],
        ["predict", "--camera", "0", "--bundle", "b", "--every"],
        ["drift", "--predictions", "p", "--registry", "r", "--threshold"],
        ["serve", "--registry", "r", "--refresh"],
        [*TRAIN, "--label-smoothing"],
        [*TRAIN, "--max-difference"],
        [*TRAIN, "--learning-rate"],
        [*TRAIN, "--memory-limit"],
        [*TRAIN, "--tolerance"],
    ],
)
def test_a_number_that_is_none_is_refused(words: list[str], number: str, capsys: Out) -> None:
    assert run([*words, number]) == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.parametrize("time", ["nan", "0s", "-1h", "99999999999d", "1w", "h"])
def test_a_time_that_is_none_or_endless_is_refused(time: str, capsys: Out) -> None:
    assert run(["edge", "run", "--registry", "r", "--dest", "d", "--poll", time]) == 2
    assert "is not a time such as 30s" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["models", "pull", "--registry", "r", "--dest", "d", "--variants", ","],
        ["models", "share", "--registry", "r", "--out", "o", "--variants", " , "],
        ["edge", "bench", "--bundle", "b", "--threads", ","],
        ["predict", "x.jpg", "--model", "m.tflite", "--std", ","],
    ],
)
def test_a_list_without_items_is_refused(words: list[str], capsys: Out) -> None:
    assert run(words) == 2
    assert "is not a list such as" in capsys.readouterr().err
