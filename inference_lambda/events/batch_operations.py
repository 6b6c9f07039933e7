"""Tasks of an S3 Batch Operations job, which labels every object in a manifest.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote_plus

from inference_lambda.events.bucket_name import bucket_name
from inference_lambda.events.s3 import S3Photo, version_id_of
from transferlite.errors import InputError

_SCHEMAS = ("1.0", "2.0")


class ResultCode(Enum):
    """Result of a task. The job retries temporary failures and stops when too many tasks fail permanently."""

    SUCCEEDED = "Succeeded"
    TEMPORARY = "TemporaryFailure"
    PERMANENT = "PermanentFailure"


@dataclass(frozen=True)
class BatchOperationsTask:
    """One line of the manifest: the object to label, or the error that parsing the line gave."""

    id: str
    photo: S3Photo | InputError


@dataclass(frozen=True)
class BatchOperationsJob:
    """One invocation by a job; each task gets its own result."""

    schema: str
    invocation: str
    tasks: tuple[BatchOperationsTask, ...]

    @property
    def photos(self) -> list[S3Photo]:
        """Photos of all well-formed tasks, in task order."""
        return [task.photo for task in self.tasks if isinstance(task.photo, S3Photo)]


def parse_batch_operations_job(event: Mapping[str, Any]) -> BatchOperationsJob | None:
    """Parse an S3 Batch Operations event; return None for any other event.

    Keys are URL-encoded, as in the manifest. Schema 1.0 gives the bucket's ARN, schema 2.0 its name.

    Raises:
        InputError: the schema is unknown, or the event has no invocation id or a task no id.
    """
    schema, tasks = event.get("invocationSchemaVersion"), event.get("tasks")
    if schema is None or not isinstance(tasks, list):
        return None
    if schema not in _SCHEMAS:
        raise InputError(f"unknown S3 Batch Operations schema {schema!r}", hint="use 1.0 or 2.0 in the job")
    try:
        parsed = tuple(BatchOperationsTask(task["taskId"], _photo(task)) for task in tasks)
        return BatchOperationsJob(schema, event["invocationId"], parsed)
    except (LookupError, TypeError) as error:
        raise InputError(f"malformed S3 Batch Operations event: {error!r}") from error


def _photo(task: Mapping[str, Any]) -> S3Photo | InputError:
    bucket, key = task.get("s3Bucket") or task.get("s3BucketArn"), task.get("s3Key")
    if not isinstance(bucket, str) or not bucket:
        return InputError("the task has no bucket")
    if not isinstance(key, str) or not key:
        return InputError("the task has no object key")
    try:
        return S3Photo(bucket_name(bucket), unquote_plus(key), version_id_of(task.get("s3VersionId")))
    except InputError as error:
        return error
