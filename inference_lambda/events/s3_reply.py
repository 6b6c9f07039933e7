"""Reply to an S3 notification that invoked the function directly, or through EventBridge or SNS."""

from collections.abc import Sequence
from typing import Any

from inference_lambda.events.outcomes import Outcome, PhotoResult, first_error


def s3_reply(results: Sequence[PhotoResult]) -> dict[str, Any]:
    """Return the counts and records: ``{"labelled", "unusable", "records"}``.

    Raises:
        Exception: the first error of a photo to retry; Lambda then delivers the whole notification again.
    """
    error = first_error(results)
    if error is not None:
        raise error
    records = [result.record for result in results if result.record is not None]
    unusable = sum(result.outcome is Outcome.UNUSABLE for result in results)
    return {"labelled": len(records) - unusable, "unusable": unusable, "records": records}
