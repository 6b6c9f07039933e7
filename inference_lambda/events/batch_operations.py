"""S3 Batch Operations: the tasks of a job that labels whatever a manifest lists, and the answer the job expects.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote_plus

from inference_lambda.events.s3 import S3Photo, version_of
from transferlite.errors import InputError

_SCHEMAS = ("1.0", "2.0")
_REPORTED = 1000
"""Characters of a result that go into the job's completion report."""


class ResultCode(Enum):
    """What became of a task; a job repeats temporary failures, and counts permanent ones against itself."""

    SUCCEEDED = "Succeeded"
    TEMPORARY = "TemporaryFailure"
    PERMANENT = "PermanentFailure"


@dataclass(frozen=True)
class Task:
    """One object of the manifest, or what is wrong with its line."""

    id: str
    photo: S3Photo | InputError


@dataclass(frozen=True)
class Job:
    """One invocation by a job: its tasks, each with a result of its own."""

    schema: str
    invocation: str
    tasks: tuple[Task, ...]

    def answer(self, results: Mapping[str, tuple[ResultCode, str]]) -> dict[str, Any]:
        """The answer for results by task, each a code and a text for the completion report.

        A task without a result may be done again: to label a photo twice writes the same.
        """
        return {
            "invocationSchemaVersion": self.schema,
            "treatMissingKeysAs": ResultCode.TEMPORARY.value,
            "invocationId": self.invocation,
            "results": [
                {"taskId": name, "resultCode": code.value, "resultString": text[:_REPORTED]}
                for name, (code, text) in results.items()
            ],
        }


def job_of(event: Mapping[str, Any]) -> Job | None:
    """The tasks of a Batch Operations event, None for anything else.

    Keys are URL-encoded, as they are in the manifest. Schema 1.0 names a bucket's ARN, 2.0 the bucket.

    Raises:
        InputError: the event's schema is another, or a task has no id to answer for.
    """
    schema, tasks = event.get("invocationSchemaVersion"), event.get("tasks")
    if schema is None or not isinstance(tasks, list):
        return None
    if schema not in _SCHEMAS:
        raise InputError(f"S3 Batch Operations' schema {schema!r} is unknown", hint="use 1.0 or 2.0 in the job")
    try:
        return Job(schema, event["invocationId"], tuple(Task(one["taskId"], _photo(one)) for one in tasks))
    except (LookupError, TypeError) as error:
        raise InputError(f"an event of S3 Batch Operations lacks its {error}") from error


def _photo(task: Mapping[str, Any]) -> S3Photo | InputError:
    bucket = task.get("s3Bucket") or str(task.get("s3BucketArn") or "").rpartition(":")[2]
    key = task.get("s3Key")
    if not isinstance(bucket, str) or not bucket or "/" in bucket:
        return InputError("the task names no bucket")
    if not isinstance(key, str) or not key:
        return InputError("the task names no object")
    return S3Photo(bucket, unquote_plus(key), version_of(task.get("s3VersionId")))
