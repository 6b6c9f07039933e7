"""Result of each S3 Batch Operations task, with the text that S3 copies into the job's completion report.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
"""

import json
from collections.abc import Sequence
from typing import Any

from inference_lambda.events.batch_operations import BatchOperationsJob, BatchOperationsTask, ResultCode
from inference_lambda.events.outcomes import PhotoResult
from transferlite.errors import InputError

_MAX_REPORT_CHARACTERS = 1000
"""Longest text per task in the completion report."""


def batch_operations_reply(job: BatchOperationsJob, results: Sequence[PhotoResult]) -> dict[str, Any]:
    """Build the reply that the job expects, with one result per task.

    ``treatMissingKeysAs`` is ``TemporaryFailure``: a task without a result may run again, as labelling is idempotent.

    Args:
        job: the tasks.
        results: one result per photo, in the order of ``job.photos``.
    """
    remaining = iter(results)
    return {
        "invocationSchemaVersion": job.schema,
        "treatMissingKeysAs": ResultCode.TEMPORARY.value,
        "invocationId": job.invocation,
        "results": [
            _malformed(task, task.photo) if isinstance(task.photo, InputError) else _labelled(task, next(remaining))
            for task in job.tasks
        ],
    }


def _malformed(task: BatchOperationsTask, error: InputError) -> dict[str, str]:
    return _task_result(task, ResultCode.PERMANENT, str(error))


def _labelled(task: BatchOperationsTask, result: PhotoResult) -> dict[str, str]:
    return _task_result(task, result.outcome.result_code, _report_text(result))


def _task_result(task: BatchOperationsTask, code: ResultCode, text: str) -> dict[str, str]:
    return {"taskId": task.id, "resultCode": code.value, "resultString": text[:_MAX_REPORT_CHARACTERS]}


def _report_text(result: PhotoResult) -> str:
    if result.outcome.retry:
        return str(result.error)
    if result.record is None:
        return "skipped: a folder or a prediction record, not a photo"
    if "error" in result.record:
        return "{code}: {message}".format(**result.record["error"])
    return json.dumps({name: result.record[name] for name in ("label", "score")})
