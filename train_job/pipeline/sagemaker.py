"""Run ``transferlite train`` as a SageMaker training job: options from a file, photos and model in its folders.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transferlite import environment
from transferlite.errors import InputError, TransferLiteError
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.storage.locations import open_store
from transferlite.storage.store import join_uri

ROOT = Path("/opt/ml")

CHANNELS: Mapping[str, str] = {
    **dict.fromkeys(("images", "train", "training"), "--images"),
    **dict.fromkeys(("labels", "annotations"), "--labels"),
    **dict.fromkeys(("test", "testing"), "--test-images"),
}
"""Option that receives a channel's folder, by channel name. A channel of labels holds a single file."""

FLAGS = frozenset({"keep-best", "warm-start"})
"""Options without a value; as hyperparameters they are ``true`` or ``false``."""

MAX_REASON_LENGTH = 1024
"""Characters of the failure file that SageMaker displays."""


def is_here(root: Path = ROOT) -> bool:
    """Whether this is the container of a SageMaker training job."""
    return (root / "input" / "config" / "hyperparameters.json").is_file()


def run_job(run: Callable[[Sequence[str]], int], root: Path = ROOT) -> int:
    """Run the training job described by the files in ``root`` with ``run``, the command line; returns its exit status.

    The version is published to the registry of the hyperparameter ``registry`` and copied to ``model/``, which
    SageMaker packs. Without ``registry``, the registry is in the folder of checkpoints if there is one: the registry
    holds the state of a stopped job. Errors are also written to ``output/failure``.
    """
    log = io.StringIO()
    try:
        options = arguments(root)
        registry = options[options.index("--registry") + 1]
        instance_type = _read(root, "resourceconfig.json").get("current_instance_type")
        os.environ.setdefault(environment.MACHINE, str(instance_type or ""))
        previous = _versions(registry)
        with _copy_stderr_to(log):
            status = run(["train", *options])
        if status in {0, 3}:  # 3: published, but not promoted
            _copy_model(registry, _versions(registry) - previous, root / "model")
    except TransferLiteError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - as the command line does
        log.write(f"error: {error}\n")
        status = error.exit_code
    if status:
        _write_failure(root, log.getvalue(), status)
    return status


def _write_failure(root: Path, log: str, status: int) -> None:
    """Write the last error of the log to ``output/failure``."""
    lines = [line for line in log.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    (root / "output").mkdir(parents=True, exist_ok=True)
    (root / "output" / "failure").write_text(reason[:MAX_REASON_LENGTH] or f"status {status}")


def arguments(root: Path = ROOT) -> list[str]:
    """Command-line options of ``transferlite train`` for the job described by the files in ``root``.

    Raises:
        InputError: a file cannot be read, a channel has an unknown name or is a pipe, a channel of labels does not hold
            a single file, or the job is for several machines.
    """
    hyperparameters = {
        name.replace("_", "-"): _text(value)
        for name, value in _read(root, "hyperparameters.json").items()
        if not name.startswith("sagemaker_")  # added by SageMaker's SDK
    }
    hosts = _read(root, "resourceconfig.json").get("hosts", ["algo-1"])
    if len(hosts) > 1:
        raise InputError(f"a training job runs on one machine, not on {len(hosts)}", hint="set InstanceCount to 1")
    options = {f"--{name}": value for name, value in hyperparameters.items() if name not in FLAGS}
    for channel, settings in _read(root, "inputdataconfig.json").items():
        option = _option(channel, settings)
        options[option] = _channel_path(root / "input" / "data" / channel, option)
    options.setdefault("--registry", str(_default_registry(root)))
    flags = [f"--{name}" for name in sorted(FLAGS) if hyperparameters.get(name, "false").lower() in {"true", "1", ""}]
    return [argument for option, value in sorted(options.items()) for argument in (option, value)] + flags


def _text(value: Any) -> str:
    """A hyperparameter without the extra JSON quotes that SageMaker's SDK puts around strings."""
    text = str(value)
    with contextlib.suppress(ValueError):
        inner = json.loads(text)
        return inner if isinstance(inner, str) else text
    return text


def _read(root: Path, name: str) -> dict[str, Any]:
    path = root / "input" / "config" / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text() or "{}")
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", where=str(path)) from None
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", where=str(path))
    return content


def _option(channel: str, settings: Any) -> str:
    if channel not in CHANNELS:
        raise InputError(f"unknown channel {channel!r}", hint=f"known: {', '.join(CHANNELS)}")
    if isinstance(settings, Mapping) and settings.get("TrainingInputMode") == "Pipe":
        raise InputError(f"the channel {channel} is in Pipe mode", hint="set its input mode to File or FastFile")
    return CHANNELS[channel]


def _channel_path(folder: Path, option: str) -> str:
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint="is the channel's S3 prefix empty?")
    if option != "--labels":
        return str(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) != 1:
        raise InputError(f"holds {len(files)} files instead of a single file of labels", where=str(folder))
    return str(files[0])


def _default_registry(root: Path) -> Path:
    checkpoints = root / "checkpoints"
    return checkpoints / "registry" if checkpoints.is_dir() else Path("/tmp/registry")


def _versions(registry: str) -> set[str]:
    with contextlib.suppress(TransferLiteError):
        return set(open_store(registry).children("models/"))
    return set()


def _copy_model(registry: str, new_versions: set[str], folder: Path) -> None:
    """Copy the version that the job published to the folder that SageMaker packs; its id is in the manifest."""
    for model_id in sorted(new_versions)[-1:]:
        store, prefix = open_store(registry), f"models/{model_id}/"
        names = list(Registry(store).manifest(model_id).files)
        for name in (*names, MANIFEST):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(join_uri(prefix, name), path)


class _Tee(io.TextIOBase):
    def __init__(self, *outputs: Any) -> None:
        self._outputs = outputs

    def write(self, text: str) -> int:
        for output in self._outputs:
            output.write(text)
        return len(text)

    def flush(self) -> None:
        for output in self._outputs:
            output.flush()


@contextlib.contextmanager
def _copy_stderr_to(log: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stderr(_Tee(sys.stderr, log)):
        yield
