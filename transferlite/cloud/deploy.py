"""Create or change a stack with ``sam deploy``."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from transferlite.cloud.stack import find_stack
from transferlite.errors import InputError, NotFoundError, TransferLiteError

_CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
_EMPTY = {"REVIEW_IN_PROGRESS"}
"""Status of a stack without resources: its first change set was not executed."""
_DEAD = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"}
"""Status of stacks that CloudFormation can only delete."""


def deployed_parameters(stack: str) -> dict[str, str]:
    """Parameters of a deployed stack; empty for a new stack.

    Raises:
        InputError: the stack cannot be changed any more, only deleted.
    """
    try:
        found = find_stack(stack)
    except NotFoundError:
        return {}
    if found.status in _DEAD:
        hint = f"delete it first: transferlite cloud destroy --stack {stack}"
        raise InputError(f"cannot be changed, it is {found.status}", where=f"stack {stack}", hint=hint)
    return {} if found.status in _EMPTY else dict(found.parameters)


def find_sam() -> str:
    """Path of the SAM CLI. Raises InputError if it is not installed."""
    found = shutil.which("sam")
    if found is None:
        raise InputError("the SAM CLI is not installed", hint="pipx install aws-sam-cli")
    return found


def deploy_stack(stack: str, template: Path, parameters: Mapping[str, str]) -> None:
    """Run ``sam deploy``. Parameters that are not passed keep the stack's values, or their defaults.

    The SAM CLI gets an empty configuration, as a samconfig.toml beside the template may contradict the options.

    Raises:
        InputError: the SAM CLI is not installed, or a new stack has no image or zip.
        NotFoundError: the template does not exist.
        TransferLiteError: ``sam deploy`` failed; it has printed the reason.
    """
    sam = find_sam()
    if not template.is_file():
        raise NotFoundError(
            "template does not exist", where=str(template), hint="omit --template to use the packaged one"
        )
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        configuration = Path(folder) / "samconfig.toml"
        configuration.write_text("version = 0.1\n")
        words = [sam, "deploy", "--template-file", str(template), "--config-file", str(configuration)]
        words += ["--stack-name", stack, "--resolve-s3", "--capabilities", *_CAPABILITIES]
        words += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--tags", "Project=TransferLite"]
        words += ["--image-repository", _repository(stack, parameters)]
        if parameters:
            words += ["--parameter-overrides", *(f"{name}={quoted(value)}" for name, value in parameters.items())]
        status = subprocess.run(words, check=False).returncode
    if status:
        raise TransferLiteError(f"sam deploy failed with exit status {status}", where=f"stack {stack}")


def quoted(value: str) -> str:
    """Quote a parameter's value for the SAM CLI, which splits it at spaces otherwise."""
    return '"' + value.replace('"', '\\"') + '"'


def _repository(stack: str, parameters: Mapping[str, str]) -> str:
    """Return the repository of the training image. sam requires one even for a zip, and pushes nothing to it."""
    known = {**deployed_parameters(stack), **parameters}
    missing = "TrainImage" if "TrainImage" not in known else "the function"
    if missing == "TrainImage" or not known.keys() & {"InferenceImage", "CodeKey"}:
        hint = "pass --train-image, and --inference-image or --function-zip"
        raise InputError(f"stack does not exist yet, and {missing} is not set", where=f"stack {stack}", hint=hint)
    return re.sub(r"(:[^:/@]+)?(@[^@]+)?$", "", known["TrainImage"])
