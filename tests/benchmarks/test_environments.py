from pathlib import Path

import click
import pytest

from benchmarks.runtimes.environments import environment


def test_a_python_that_is_not_on_the_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"no python3\.12 on PATH"):
        environment(tmp_path / "here", "numpy", version="3.12")
