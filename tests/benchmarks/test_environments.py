from pathlib import Path

import click
import pytest

from benchmarks.runtimes.environments import environment


def test_a_missing_python_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"no python3\.12 on PATH"):
        environment(tmp_path / "here", "numpy", version="3.12")
