"""Tests that build and run both images: ``make test-containers``, not part of ``make test``.

``TRANSFERLITE_TEST_CONTAINERS=DIR`` keeps the base and the images in DIR for the next run.
"""

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import BUCKET, Trained
from tests.inference_lambda.models import publish
from tests.inference_lambda.runtime_api import Function
from tests.pictures import jpeg, write_folders
from tests.template.podman import Podman, UnavailableError, install_tools
from transferlite.registry.local_bundle import check_files, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client

BASE, LAMBDA_BASE = "localhost/base:1", "localhost/lambda-base:1"
TRAIN, FUNCTION = "localhost/train:1", "localhost/inference:1"
UNPRIVILEGED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
LAMBDA_USER = "993:990"
SEED_JOB = ("--image-size", "64", "--epochs", "300", "--hidden-units", "256")

LAMBDA_BASE_DOCKERFILE = f"""
FROM {BASE}
RUN python3 -m pip install --quiet --break-system-packages awslambdaric
ENV LAMBDA_TASK_ROOT=/var/task
WORKDIR /var/task
ENTRYPOINT ["python3", "-m", "awslambdaric"]
"""


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    kept = os.environ.get("TRANSFERLITE_TEST_CONTAINERS")
    folder = Path(kept or tempfile.mkdtemp(prefix="containers-", dir="/var/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        install_tools()
        podman_store = Podman(folder)
        if not podman_store.has(BASE):
            podman_store.make_base(BASE)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield podman_store
    if not kept:
        podman_store.run("system", "reset", "--force", check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def images(podman: Podman) -> dict[str, float]:
    """Build both images; returns the seconds of each build."""
    seconds = {}
    with tempfile.TemporaryDirectory() as empty:
        dockerfile = Path(empty) / "Dockerfile"
        dockerfile.write_text(LAMBDA_BASE_DOCKERFILE)
        if not podman.has(LAMBDA_BASE):
            podman.build(LAMBDA_BASE, dockerfile, {}, Path(empty))
    for name, room, base in ((FUNCTION, "inference_lambda", LAMBDA_BASE), (TRAIN, "train_job", BASE)):
        started_at = time.perf_counter()
        if not podman.has(name) or "TRANSFERLITE_TEST_CONTAINERS" not in os.environ:
            podman.build(name, Path(room) / "Dockerfile", {"BASE": base})
        seconds[name] = time.perf_counter() - started_at
    return seconds


def report(line: str) -> None:
    """Print a line even if pytest captures output."""
    print(f"\n{line}", file=sys.__stderr__, flush=True)


def test_both_images_are_built(podman: Podman, images: dict[str, float]) -> None:
    base = podman.size(BASE)
    for name, seconds in images.items():
        size = podman.size(name)
        mebibytes, without_base = size / 2**20, (size - base) / 2**20
        report(f"{name}: {mebibytes:.0f} MiB, {without_base:.0f} MiB without the base; built in {seconds:.0f} s")
    assert podman.size(FUNCTION) - podman.size(LAMBDA_BASE) < 130 * 2**20


@pytest.mark.parametrize(
    ("name", "path", "packages"),
    [
        (FUNCTION, "/var/task/sbom.cdx.json", {"numpy", "pillow", "ai-edge-litert", "transferlite"}),
        (TRAIN, "/opt/transferlite/sbom.cdx.json", {"keras", "numpy", "pillow", "transferlite"}),
    ],
)
def test_an_image_lists_its_packages(
    podman: Podman, images: dict[str, float], name: str, path: str, packages: set[str]
) -> None:
    done = subprocess.run([*podman.start(name, "--entrypoint=cat"), path], capture_output=True, check=True)
    components = {component["name"] for component in json.loads(done.stdout)["components"]}
    assert packages <= components
    assert "cyclonedx-bom" not in components


# -- the function ------------------------------------------------------------------------------------------------------


def in_container(podman: Podman, registry: Path, name: str) -> list[str]:
    limits = ["--memory=512m", "--memory-swap=512m", f"--user={LAMBDA_USER}", "--tmpfs=/tmp:rw,size=512m,mode=1777"]
    passed = ("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_REGION", "TRANSFERLITE_REGISTRY")
    options = [*UNPRIVILEGED, *limits, f"--name={name}", *(f"--env={variable}" for variable in passed)]
    return podman.start(FUNCTION, *options, f"--volume={registry}:{registry}:ro")


def process_status(process: str) -> dict[str, str]:
    """Return the kernel's status fields of a process."""
    return dict(line.split(":", 1) for line in Path("/proc", process, "status").read_text().splitlines())


def memory_limit(process: str) -> int:
    """Return the memory limit of a process's control group in bytes."""
    lines = (line.split(":", 2) for line in Path("/proc", process, "cgroup").read_text().splitlines())
    groups = {controllers: path.lstrip("/") for _, controllers, path in lines}
    if "memory" in groups:
        return int(Path("/sys/fs/cgroup/memory", groups["memory"], "memory.limit_in_bytes").read_text())
    return int(Path("/sys/fs/cgroup", groups[""], "memory.max").read_text())


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Path:
    """Registry that every user may read."""
    folder = tmp_path / "registry"
    publish(str(folder), trained, "one")
    for path in (tmp_path.parent, tmp_path, folder):
        path.chmod(0o755)
    return folder


@contextmanager
def function(podman: Podman, registry: Path) -> Iterator[tuple[Function, str]]:
    """Run the function's image with a local Runtime API; also return the container's name."""
    name = f"function-{uuid.uuid4().hex[:8]}"
    command = [*in_container(podman, registry, name), "inference_lambda.handler.lambda_handler"]

    def kill(process: "subprocess.Popen[bytes]") -> None:
        podman.run("kill", name, check=False)
        process.kill()

    with Function({"TRANSFERLITE_REGISTRY": str(registry)}, command, memory=512, kill=kill) as started:
        yield started, name


@pytest.mark.usefixtures("images")
def test_the_function_runs_unprivileged_on_a_read_only_root_in_512_mb(podman: Podman, registry: Path) -> None:
    event = {"image": base64.b64encode(jpeg("red", 7)).decode()}
    with function(podman, registry) as (started, name):
        first = started.invoke(event)
        assert first.error is None, started.log
        assert first.payload["label"] == "red", started.log
        pid = podman.run("inspect", "--format", "{{.State.Pid}}", name).stdout.strip()
        assert process_status(pid)["Uid"].split()[0] == LAMBDA_USER.split(":", maxsplit=1)[0]
        assert int(process_status(pid)["CapEff"], 16) == 0
        assert memory_limit(pid) == 512 * 2**20
        for path, message in (("/var/task", "Read-only file system"), ("/etc", "Read-only file system"), ("/tmp", "")):
            done = podman.run("exec", name, "python3", "-c", f"open('{path}/written', 'w')", check=False)
            assert message in done.stderr
            assert (done.returncode == 0) is (not message)
        warm = [started.invoke(event).seconds for _ in range(50)]
        broken = started.invoke({"image": base64.b64encode(b"no photo").decode()})
        assert broken.payload["error"]["code"] == "not-image"
        peak = int(process_status(pid)["VmHWM"].split()[0]) / 1024
    report(f"function: warm {1000 * statistics.median(warm):.1f} ms (median of 50), at most {peak:.0f} MiB")


@pytest.mark.usefixtures("images")
def test_cold_starts_of_the_function_image(podman: Podman, registry: Path) -> None:
    event, seconds = {"image": base64.b64encode(jpeg("red", 7)).decode()}, []
    for _ in range(5):
        with function(podman, registry) as (started, _):
            first = started.invoke(event)
        assert first.payload["label"] == "red"
        seconds.append(first.init_seconds + first.seconds)
    sorted_seconds = ", ".join(f"{value:.2f}" for value in sorted(seconds))
    report(f"function: cold, with podman's own start: {sorted_seconds} s")


# -- the training job --------------------------------------------------------------------------------------------------


def as_batch(podman: Podman, command: list[str], attempt: int = 1, array: dict[str, str] | None = None) -> list[str]:
    """Return the command that starts a job as AWS Batch does."""
    variables = {
        "AWS_BATCH_JOB_ID": "6d9e5c1c-0000-0000-0000-000000000000",
        "AWS_BATCH_JOB_ATTEMPT": str(attempt),
        "AWS_BATCH_JQ_NAME": "photos",
        **(array or {}),
    }
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    options = [*(f"--env={name}" for name in names), *(f"--env={key}={value}" for key, value in variables.items())]
    return [*podman.start(TRAIN, *UNPRIVILEGED, "--init", "--tmpfs=/tmp:rw,mode=1777", *options), *command]


def run_to_end(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(bucket: Any, tmp_path: Path) -> str:
    """Photos of the seed job: 200 photos of two classes in S3."""
    for path in write_folders(tmp_path / "photos", 100).rglob("*.jpg"):
        bucket.upload_file(str(path), BUCKET, f"photos/{path.parent.name}/{path.name}")
    return f"s3://{BUCKET}/photos"


def head(registry: str) -> dict[str, bytes]:
    """Return the head weights and the metrics of the registry's only version."""
    (manifest,) = Registry.open(registry).versions()
    data = s3_client().get_object(
        Bucket=BUCKET, Key=f"{registry.removeprefix(f's3://{BUCKET}/')}/models/{manifest.model_id}/training/head.npz"
    )
    with tempfile.TemporaryFile() as file:
        file.write(data["Body"].read())
        file.seek(0)
        with np.load(file) as weights:
            return {name: weights[name].tobytes() for name in weights.files} | {
                "m": json.dumps(manifest.metrics).encode()
            }


@pytest.mark.usefixtures("images")
def test_a_stopped_job_resumes_and_gives_the_same_model(podman: Podman, photos: str) -> None:
    train = ["train", "--images", photos, *SEED_JOB, "--registry"]
    started_at = time.perf_counter()
    alone = run_to_end(as_batch(podman, [*train, f"s3://{BUCKET}/alone"]))
    assert alone.returncode == 0, alone.stdout + alone.stderr
    report(f"seed job, 200 photos, {SEED_JOB[3]} epochs, in its container: {time.perf_counter() - started_at:.0f} s")

    name = f"train-{uuid.uuid4().hex[:8]}"
    command = as_batch(podman, [*train, f"s3://{BUCKET}/stopped"])
    command.insert(command.index("--rm") + 1, f"--name={name}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        assert job.stdout is not None
        output = ""
        while "photos fetched" not in output and (line := job.stdout.readline()):
            output += line  # every photo has its features now, and the head's training starts
        podman.run("kill", "--signal=TERM", name)
        output += job.stdout.read()
    assert job.returncode == 143, output
    assert output.endswith("stopped by SIGTERM; run the same command again to resume\n"), output

    again = run_to_end(as_batch(podman, [*train, f"s3://{BUCKET}/stopped"], attempt=2))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "attempt 2: resuming from the saved features and state" in again.stdout + again.stderr
    assert "0 photos fetched, 0 images run through the backbone, 200 photos reused" in again.stdout, again.stdout
    assert head(f"s3://{BUCKET}/stopped") == head(f"s3://{BUCKET}/alone")


@pytest.mark.usefixtures("images")
def test_each_array_job_child_extracts_its_own_photos(podman: Podman, photos: str) -> None:
    command = ["features", "extract", "--images", photos, "--features", f"s3://{BUCKET}/rows", "--image-size", "64"]
    for index in range(2):
        array = {"AWS_BATCH_JOB_ARRAY_SIZE": "2", "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
        child = run_to_end(as_batch(podman, command, array=array))
        assert child.returncode == 0, child.stdout + child.stderr
    from train_job.store.feature_store import FeatureStore

    store = FeatureStore.open(f"s3://{BUCKET}/rows")
    assert sum(len(store.row_index(space)) for space in store.spaces() if space.layer == "pool") == 200


@pytest.mark.usefixtures("images")
def test_the_container_exits_with_the_commands_status(podman: Podman, bucket: Any) -> None:
    done = run_to_end(
        as_batch(podman, ["train", "--images", f"s3://{BUCKET}/nothing", "--registry", f"s3://{BUCKET}/r"])
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.usefixtures("images")
def test_the_training_image_runs_on_sagemaker(podman: Podman, tmp_path: Path) -> None:
    config = tmp_path / "ml" / "input" / "config"
    config.mkdir(parents=True)
    options = {"epochs": "20", "image_size": "64", "weights": "none", "promote": "always"}
    (config / "hyperparameters.json").write_text(json.dumps(options))
    (config / "inputdataconfig.json").write_text(json.dumps({"training": {"TrainingInputMode": "File"}}))
    write_folders(tmp_path / "ml" / "input" / "data" / "training")
    for name in ("model", "output", "checkpoints"):
        (tmp_path / "ml" / name).mkdir()
    subprocess.run(["chmod", "-R", "a+rwX", str(tmp_path.parent)], check=True)
    sagemaker = podman.start(TRAIN, f"--volume={tmp_path / 'ml'}:/opt/ml", "--tmpfs=/tmp:rw,mode=1777")
    done = run_to_end([*sagemaker, "train"])
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(tmp_path / "ml" / "model")
    check_files(tmp_path / "ml" / "model", manifest.files)
    (config / "hyperparameters.json").write_text(json.dumps({"backbone": "no_such"}))
    assert run_to_end([*sagemaker, "train"]).returncode == 2
    assert "no_such" in (tmp_path / "ml" / "output" / "failure").read_text()
