from collections.abc import Iterator

import pytest

from train_job.progress import Phases, Reporter


def test_a_log_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().line("Found 3 photos [bold] in s3://bucket/" + "long/" * 40)
    assert capsys.readouterr().out == "Found 3 photos [bold] in s3://bucket/" + "long/" * 40 + "\n"


def test_a_name_between_colons_is_not_turned_into_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().line("photos/:cat:/1.jpg")
    assert capsys.readouterr().out == "photos/:cat:/1.jpg\n"


def test_a_warning_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().warning("left out a.jpg [red]")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: left out a.jpg [red]\n")


def test_a_count_in_a_log_says_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().counting("epochs", 3) as advance:
        for number in range(3):
            advance(f"loss {number}")
    assert capsys.readouterr().out == "epochs: 3 of 3, loss 2\n"


def test_a_long_count_speaks_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter(float(second) for second in range(0, 1000, 6))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Reporter().counting("features", 5) as advance:
        for _ in range(5):
            advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "features: 5 of 5"
    assert 1 < len(lines) < 5


def test_phases_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    phases = Phases()
    for name in ("data", "features", "data"):
        with phases(name):
            pass
    assert phases.seconds == {"data": 6.0, "features": 3.0}


def test_a_phase_that_fails_is_counted() -> None:
    phases = Phases()
    with pytest.raises(ValueError, match="broken"), phases("export"):
        raise ValueError("broken")
    assert list(phases.seconds) == ["export"]
