from collections.abc import Iterator

import pytest

from train_job.progress import PhaseTimer, Reporter


def test_a_log_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().line("Found 3 photos [bold] in s3://bucket/" + "long/" * 40)
    assert capsys.readouterr().out == "Found 3 photos [bold] in s3://bucket/" + "long/" * 40 + "\n"


def test_a_name_between_colons_is_not_turned_into_an_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().line("photos/:cat:/1.jpg")
    assert capsys.readouterr().out == "photos/:cat:/1.jpg\n"


def test_a_warning_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().warning("left out a.jpg [red]")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: left out a.jpg [red]\n")


def test_progress_in_a_log_ends_with_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().progress("epochs", 3) as advance:
        for number in range(3):
            advance(f"loss {number}")
    assert capsys.readouterr().out == "epochs: 3 of 3, loss 2\n"


def test_slow_progress_prints_a_line_every_10_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Iterator[float] = iter(float(second) for second in range(0, 1000, 6))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Reporter().progress("features", 5) as advance:
        for _ in range(5):
            advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "features: 5 of 5"
    assert 1 < len(lines) < 5


def test_phases_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    phases = PhaseTimer()
    for name in ("data", "features", "data"):
        with phases(name):
            pass
    assert phases.seconds == {"data": 6.0, "features": 3.0}


def test_a_failed_phase_is_timed() -> None:
    phases = PhaseTimer()
    with pytest.raises(ValueError, match="broken"), phases("export"):
        raise ValueError("broken")
    assert list(phases.seconds) == ["export"]
