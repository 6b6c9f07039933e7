import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


MEMORY = Path("/dev/shm")
"""Where two hundred copies of a folder cost nothing."""


def test_an_update_killed_at_any_operation_leaves_one_whole_model() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        words = [sys.executable, "-m", "tests.transferlite.edge.killed_pulls", folder]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    places = {name: int(steps) for name, steps in re.findall(r"^(.+): (\d+)$", done.stdout, re.MULTILINE)}
    assert set(places) == {"first pull", "next pull, one before removed", "going back", "healing"}
    assert min(places["first pull"], places["next pull, one before removed"]) > 50, places
    assert places["going back"] > 3
    assert places["healing"] > 10
