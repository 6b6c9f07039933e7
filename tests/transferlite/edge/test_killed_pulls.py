import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


MEMORY = Path("/dev/shm")
"""Memory file system: the test copies a folder 200 times."""


def test_an_update_killed_at_any_operation_leaves_one_whole_model() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        words = [sys.executable, "-m", "tests.transferlite.edge.killed_pulls", folder]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {name: int(count) for name, count in re.findall(r"^(.+): (\d+)$", done.stdout, re.MULTILINE)}
    assert set(steps) == {"first pull", "next pull, old version removed", "fallback", "repair"}
    assert min(steps["first pull"], steps["next pull, old version removed"]) > 50, steps
    assert steps["fallback"] > 3
    assert steps["repair"] > 10
