"""The training image as SageMaker runs it: its options in a file, its photos in folders, its model to a folder.

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
"""The option that a channel's folder is given to, by the channel's name. That of labels holds one file."""

FLAGS = frozenset({"keep-best", "warm-start"})
"""Options without a value; as hyperparameters they are ``true`` or ``false``."""

MOST_REASON = 1024
"""Characters of the failure file that SageMaker shows."""


def is_here(root: Path = ROOT) -> bool:
    """Whether SageMaker has prepared this machine for a training job."""
    return (root / "input" / "config" / "hyperparameters.json").is_file()


def run_job(run: Callable[[Sequence[str]], int], root: Path = ROOT) -> int:
    """Train as the files below ``root`` say; ``run`` is the command line. Returns the exit status.

    The version goes to the registry that the hyperparameter ``registry`` names, and to ``model/``, which SageMaker
    packs. Without ``registry`` it is the folder of checkpoints, where SageMaker keeps one, for what a stopped job has
    done is in the registry. Whatever goes wrong is also written to ``output/failure``.
    """
    said = io.StringIO()
    try:
        words = arguments(root)
        registry = words[words.index("--registry") + 1]
        kind = _read(root, "resourceconfig.json").get("current_instance_type")
        os.environ.setdefault(environment.MACHINE, str(kind or ""))
        before = _versions(registry)
        with _also_written_to(said):
            status = run(["train", *words])
        if status in {0, 3}:  # 3: published, and not promoted
            _hand_over(registry, _versions(registry) - before, root / "model")
    except TransferLiteError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - as the command line does
        said.write(f"error: {error}\n")
        status = error.exit_code
    if status:
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
        (root / "output").mkdir(parents=True, exist_ok=True)
        (root / "output" / "failure").write_text(reason[:MOST_REASON] or f"status {status}")
    return status


def arguments(root: Path = ROOT) -> list[str]:
    """The words after ``transferlite train`` for the job that is laid out below ``root``.

    Raises:
        InputError: a file cannot be read, a channel is of no known name, a pipe, or without its one file of labels,
            or the job is for several machines.
    """
    given = {
        name.replace("_", "-"): _text(value)
        for name, value in _read(root, "hyperparameters.json").items()
        if not name.startswith("sagemaker_")  # of the SDK
    }
    hosts = _read(root, "resourceconfig.json").get("hosts", ["algo-1"])
    if len(hosts) > 1:
        raise InputError(f"a training runs on one machine, not on {len(hosts)}", hint="set InstanceCount to 1")
    options = {f"--{name}": value for name, value in given.items() if name not in FLAGS}
    for channel, settings in _read(root, "inputdataconfig.json").items():
        option = _option(channel, settings)
        options[option] = _channel(root / "input" / "data" / channel, option)
    options.setdefault("--registry", str(_own_registry(root)))
    flags = [f"--{name}" for name in sorted(FLAGS) if given.get(name, "false").lower() in {"true", "1", ""}]
    return [word for option, value in sorted(options.items()) for word in (option, value)] + flags


def _text(value: Any) -> str:
    """A hyperparameter as it is meant: SageMaker's SDK puts texts into quotes once more."""
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
        raise InputError(f"there is no channel {channel!r}", hint=f"name them {', '.join(CHANNELS)}")
    if isinstance(settings, Mapping) and settings.get("TrainingInputMode") == "Pipe":
        raise InputError(f"the channel {channel} is a pipe", hint="set its input mode to File or FastFile")
    return CHANNELS[channel]


def _channel(folder: Path, option: str) -> str:
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint="is the channel's S3 prefix empty?")
    if option != "--labels":
        return str(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) != 1:
        raise InputError(f"holds {len(files)} files where one of labels is needed", where=str(folder))
    return str(files[0])


def _own_registry(root: Path) -> Path:
    checkpoints = root / "checkpoints"
    return checkpoints / "registry" if checkpoints.is_dir() else Path("/tmp/registry")


def _versions(registry: str) -> set[str]:
    with contextlib.suppress(TransferLiteError):
        return set(open_store(registry).children("models/"))
    return set()


def _hand_over(registry: str, made: set[str], folder: Path) -> None:
    """Copy the version that the job made to where SageMaker packs it; its name is in the manifest."""
    for model_id in sorted(made)[-1:]:
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
def _also_written_to(kept: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stderr(_Tee(sys.stderr, kept)):
        yield
