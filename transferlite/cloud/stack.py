"""Read a deployed CloudFormation stack, create AWS clients and translate their errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from transferlite.errors import (
    AccessDeniedError,
    ConflictError,
    InputError,
    MissingExtraError,
    NotFoundError,
    TransferLiteError,
    UnavailableError,
)

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "ExpiredToken", "InvalidClientTokenId"}
_THERE = {"RepositoryAlreadyExistsException", "BucketAlreadyOwnedByYou"}
_NO_IMAGE = {"RepositoryNotFoundException", "ImageNotFoundException"}


@dataclass(frozen=True)
class DeployedStack:
    """Status, outputs and parameters of a stack in CloudFormation."""

    name: str
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]

    @property
    def training(self) -> str:
        """ARN of the training state machine."""
        return self.output("TrainingArn")

    @property
    def registry(self) -> str:
        """URI of the model registry."""
        return self.output("RegistryUri")

    def output(self, name: str) -> str:
        """Value of an output. Raises NotFoundError if the stack has none of that name."""
        if name not in self.outputs:
            raise NotFoundError(
                f"has no output {name}",
                where=f"stack {self.name}",
                hint="check that it is a TransferLite stack and completely deployed",
            )
        return self.outputs[name]


def find_stack(name: str) -> DeployedStack:
    """Read the stack with this name.

    Raises:
        NotFoundError: no such stack in this account and region.
    """
    with translate_aws_errors(f"stack {name}"):
        (stack,) = client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", ())}
    return DeployedStack(name, stack["StackStatus"], outputs, parameters)


@cache
def _session() -> Any:
    try:
        import boto3
    except ModuleNotFoundError:
        raise MissingExtraError("boto3", "cloud") from None
    return boto3.session.Session()


def client(service: str, region: str | None = None) -> Any:
    """A boto3 client; endpoint, region and credentials come from the standard AWS settings."""
    with translate_aws_errors(service):
        return _session().client(service, region_name=region)


@contextmanager
def translate_aws_errors(where: str) -> Iterator[None]:
    """Turn boto3's exceptions into errors of TransferLite, with a hint what to do."""
    import botocore.exceptions as aws

    try:
        yield
    except aws.ClientError as error:
        raise _translate_response(where, error) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError):
        raise AccessDeniedError("no AWS credentials found", where=where, hint="set AWS_PROFILE") from None
    except (aws.NoRegionError, aws.ProfileNotFound, aws.ParamValidationError) as error:
        raise InputError(" ".join(str(error).split()), where=where, hint="set AWS_DEFAULT_REGION") from None
    except aws.BotoCoreError as error:
        raise UnavailableError(" ".join(str(error).split()), where=where, hint="check the network") from error


def _translate_response(where: str, error: Any) -> TransferLiteError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = str(error.response.get("Error", {}).get("Message") or code)
    if (
        "does not exist" in text
        or code in {"ResourceNotFoundException", "StateMachineDoesNotExist"}
        or code in _NO_IMAGE
    ):
        return NotFoundError("does not exist", where=where, hint="check its name, AWS_PROFILE and AWS_DEFAULT_REGION")
    if code in _THERE:
        return ConflictError("exists already", where=where)
    if code in _DENIED:
        return AccessDeniedError(f"access denied ({text})", where=where, hint="check your own permissions")
    return TransferLiteError(f"AWS answered {code}: {text}", where=where)
