import pytest

from transferlite.cli.main import run

Out = pytest.CaptureFixture[str]


def test_an_error_is_one_line_and_debug_shows_the_traceback(capsys: Out) -> None:
    words = ["predict", "x.jpg", "--bundle", "/no/such/bundle"]
    assert run(words) == 2
    plain = capsys.readouterr().err
    assert plain == "error: /no/such/bundle: does not exist; correct the path, or mount its disk\n"
    assert run([*words, "--debug"]) == 2
    debug = capsys.readouterr().err
    assert debug.startswith("Traceback")
    assert debug.endswith(plain)


def test_debug_may_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setenv("TRANSFERLITE_DEBUG", "1")
    assert run(["predict", "x.jpg", "--bundle", "/no/such/bundle"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["--help"], 0), (["predict", "-h"], 0), (["x"], 2)])
def test_help_succeeds_and_an_unknown_command_fails(capsys: Out, words: list[str], status: int) -> None:
    assert run(words) == status
    assert "transferlite" in "".join(capsys.readouterr())
