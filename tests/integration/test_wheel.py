"""The wheel is whole: its commands work in an empty folder, without a checkout, and a type checker finds its types."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest

from export.browser import site
from tests.installed import ROOT, Install, install
from transferlite.packaging.own_wheel import for_python, write_wheel

DATA = {
    *("transferlite/py.typed", "transferlite/cloud/template.yaml", "transferlite/cloud/prices.json"),
    *("train_job/training.asl.json", "train_job/Dockerfile", "inference_lambda/Dockerfile"),
    *("inference_lambda/http/page.html", "export/tflite/op_versions.json"),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "train_job/reporting/templates").iterdir()),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "export/browser/web").iterdir()),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "transferlite/schemas").iterdir()),
}

STACK = """
Parameters:
  TrainImage: { Type: String }
  InferenceImage: { Type: String }
Resources:
  ModelBucket: { Type: "AWS::S3::Bucket" }
Outputs:
  RegistryUri: { Value: "s3://models/registry" }
"""

SAM = """#!/bin/sh
cp "$3" deployed.yaml
cp "$(dirname "$3")/train_job/training.asl.json" deployed.json
"""

TYPED = """
from typing import assert_type
from transferlite import Prediction, Predictor, Registry
from transferlite.errors import BundleError

try:
    predictor = Predictor.load("bundle")
except BundleError as error:
    assert_type(error.hint, str)
assert_type(predictor, Predictor)
assert_type(predictor("photo.jpg"), Prediction)
assert_type(predictor("photo.jpg").score, float)
assert_type(Registry.open("models"), Registry)
assert_type(next(Registry.open("models").versions()).labels, tuple[str, ...])
"""


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """The wheel with what it requires, without an extra."""
    return install(wheel, tmp_path_factory.mktemp("bare"), with_all_packages=False)


@pytest.fixture(scope="module")
def demo(installed: Install) -> tuple[str, Path]:
    """What the demo prints, and the bundle that it makes."""
    done = installed.run("demo", "--epochs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = (installed.folder / "demo-output" / "registry" / "models").iterdir()
    return done.stdout, bundle


def test_it_holds_every_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("transferlite/cloud/template.yaml") == (ROOT / "template.yaml").read_bytes()
    assert names >= DATA
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        *("transferlite", "train_job", "export", "inference_lambda")
    }


def test_the_checkout_is_not_imported(installed: Install, bare: Install) -> None:
    code = (
        "import transferlite, export, train_job, inference_lambda, importlib.util as util\n"
        "print(*(one.__file__ for one in (transferlite, export, train_job, inference_lambda)), sep='\\n')\n"
        "print(util.find_spec('tests'), util.find_spec('benchmarks'))"
    )
    for environment in (installed, bare):
        *files, others = environment.execute(code).stdout.splitlines()
        assert [Path(file).parents[1] for file in files] == [environment.packages] * 4
        assert others == "None None"


def test_deploy_hands_sam_the_packaged_template_and_its_state_machine(
    installed: Install, bucket: Any, tmp_path: Path
) -> None:
    assert "transferlite cloud deploy" in installed.run("cloud", "deploy", "--help").stdout
    parameters = [{"ParameterKey": name, "ParameterValue": "a/b:1"} for name in ("TrainImage", "InferenceImage")]
    boto3.client("cloudformation").create_stack(StackName="photos", TemplateBody=STACK, Parameters=parameters)
    (tmp_path / "sam").write_text(SAM)
    (tmp_path / "sam").chmod(0o755)
    (installed.folder / "template.yaml").write_text("another template")
    done = installed.run("cloud", "deploy", "--stack", "photos", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "RegistryUri          s3://models/registry" in done.stdout
    assert (installed.folder / "deployed.yaml").read_bytes() == (ROOT / "template.yaml").read_bytes()
    definition = (ROOT / "train_job" / "training.asl.json").read_bytes()
    assert (installed.folder / "deployed.json").read_bytes() == definition
    assert "template.yaml in this folder is not used; --template template.yaml deploys it" in done.stderr


def test_an_install_and_a_checkout_are_packed_alike(installed: Install, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from transferlite.packaging.own_wheel import write_wheel\n"
        "print(write_wheel(pathlib.Path(sys.argv[1]), ['transferlite', 'inference_lambda'], '3.12'))"
    )
    other = Path(installed.execute(code, tmp_path).stdout.strip())
    (tmp_path / "own").mkdir()
    ours = write_wheel(tmp_path / "own", ["transferlite", "inference_lambda"], "3.12")
    names = []
    for wheel in (ours, other):
        with zipfile.ZipFile(wheel) as archive:
            names.append({*archive.namelist()} - {"transferlite/cloud/template.yaml"})
    assert names[0] == names[1]


@pytest.mark.parametrize(("python", "holds"), [("3.9", True), ("3.11", True), ("3.12", False), ("3.13", False)])
def test_markers_are_evaluated_for_the_python_of_the_device(python: str, holds: bool) -> None:
    metadata = "Requires-Dist: a==1; (python_version < '3.12') and extra == 'b'\n\npython_version < '3.12'"
    mark = "!=" if holds else "=="
    expected = f"Requires-Dist: a==1; (os_name {mark} '') and extra == 'b'\n\npython_version < '3.12'"
    assert for_python(metadata, python) == expected


def test_the_demo_runs_whole(demo: tuple[str, Path]) -> None:
    printed, bundle = demo
    assert re.search(r"\d+ of 20 predictions are right", printed)
    assert "<html" in (bundle / "report.html").read_text()
    assert {"manifest.json", "int8.tflite", "labels.txt"} <= {path.name for path in bundle.iterdir()}


def test_the_bundle_of_the_demo_becomes_a_page_and_its_operations_are_known(
    installed: Install, demo: tuple[str, Path], tmp_path: Path
) -> None:
    _, bundle = demo
    for name, _ in site._RUNTIME_FILES:
        (tmp_path / "modules" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "modules" / name).write_text("")
    words = ["--bundle", bundle, "--dest", tmp_path / "site", "--litert", tmp_path / "modules"]
    done = installed.run("export", "web", *words)
    assert done.returncode == 0, done.stderr
    assert "page.js" in {path.name for path in (tmp_path / "site").iterdir()}
    assert "oldest TensorFlow Lite" in installed.run("export", "check", bundle / "int8.tflite").stdout


TRAIN = ("train", "--images", "photos", "--registry", "models")


@pytest.mark.parametrize(
    ("words", "extra"),
    [(("demo",), "demo"), (TRAIN, "train"), (("serve", "--registry", "models"), "serve")],
)
def test_a_command_without_its_extra_names_it(bare: Install, words: tuple[str, ...], extra: str) -> None:
    done = bare.run(*words)
    assert done.returncode == 2
    assert f"is not installed; install the extra: pip install 'transferlite[{extra}]'" in done.stderr


def checked(bare: Install, script: str) -> str:
    """What ``mypy --strict`` prints of a script where only the wheel and its requirements are installed."""
    (bare.folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--python-executable", str(bare.python)]
    command += ["--cache-dir", str(bare.venv / "mypy"), "script.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=bare.folder).stdout


def test_a_type_checker_finds_the_types(bare: Install) -> None:
    assert checked(bare, TYPED) == "Success: no issues found in 1 source file\n"
    assert 'has no attribute "Predicter"' in checked(bare, "from transferlite import Predicter\n")
