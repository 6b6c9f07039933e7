"""Outcome of a photo, and its effect on each event source: one table for all sources.

==========  ==================================  ======================  ==========================  ================
outcome     the photo's record                  SQS, S3 notification,   S3 Batch Operations         direct, HTTP
                                                Distributed Map
==========  ==================================  ======================  ==========================  ================
LABELLED    its prediction                      done                    ``Succeeded``               the prediction
UNUSABLE    why it can never be labelled        done                    ``PermanentFailure``        the error, 4xx
SKIPPED     none: a folder or own output        done                    ``Succeeded``
LATER       none: throttled, 5xx, no time       delivers it again       ``TemporaryFailure``        raised, 503
REFUSED     none: forbidden, no model, a bug    delivers it again,      ``PermanentFailure``        raised, 403
                                                then dead-letter queue                              or 502
==========  ==================================  ======================  ==========================  ================

A REFUSED photo needs a person to fix a policy or a model. It gets no record, so that it does not count as done.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from inference_lambda.events.batch_operations import ResultCode
from inference_lambda.events.s3 import S3Photo
from transferlite.errors import MissingStoreError, NotFoundError, PhotoError, TransferLiteError, UnavailableError

_RESERVED_SECONDS = 1.0
"""Time kept for the work after the photos: tags, events, metrics and the reply."""


class Outcome(Enum):
    """Outcome of one photo.

    Attributes:
        retry: whether the source should deliver the photo again.
        result_code: result for S3 Batch Operations.
    """

    LABELLED = "labelled", False, ResultCode.SUCCEEDED
    UNUSABLE = "unusable", False, ResultCode.PERMANENT
    SKIPPED = "skipped", False, ResultCode.SUCCEEDED
    LATER = "later", True, ResultCode.TEMPORARY
    REFUSED = "refused", True, ResultCode.PERMANENT

    def __init__(self, _: str, retry: bool, result_code: ResultCode) -> None:
        self.retry = retry
        self.result_code = result_code


_PHOTO_ERRORS: tuple[tuple[type[Exception], Outcome], ...] = (
    (PhotoError, Outcome.UNUSABLE),
    (MissingStoreError, Outcome.REFUSED),
    (NotFoundError, Outcome.UNUSABLE),
)
"""Outcome of an error raised while fetching or decoding a photo; the first matching type counts."""


def outcome_of(error: Exception, *, of_photo: bool = False) -> Outcome:
    """Return the outcome of an error.

    Args:
        error: the error.
        of_photo: whether fetching or decoding the photo raised it, rather than the model, the output or a bug.
    """
    for kind, outcome in _PHOTO_ERRORS if of_photo else ():
        if isinstance(error, kind):
            return outcome
    retryable = isinstance(error, TransferLiteError) and error.retryable
    return Outcome.LATER if retryable else Outcome.REFUSED


def error_code(error: Exception) -> str:
    """Return the error's machine-readable code, used in records and metrics."""
    if isinstance(error, PhotoError):
        return error.code
    if isinstance(error, MissingStoreError):
        return "no-bucket"
    if isinstance(error, NotFoundError):
        return "missing"
    if isinstance(error, TransferLiteError):
        return type(error).__name__
    return "internal"


def describe_error(error: TransferLiteError) -> dict[str, str]:
    """Return ``{"code", "message"}``, as records and direct replies contain it."""
    return {"code": error_code(error), "message": error.message}


@dataclass(frozen=True)
class PhotoResult:
    """Outcome of one photo, with its record and its error where it has them."""

    photo: S3Photo
    outcome: Outcome
    record: dict[str, Any] | None = None
    error: Exception | None = None

    def with_error(self, error: Exception) -> "PhotoResult":
        """Return the result after writing its tags, event or line failed; its source should deliver the photo again."""
        return replace(self, outcome=outcome_of(error), error=error)


def first_error(results: Iterable[PhotoResult]) -> Exception | None:
    """Return the first error of a photo to retry, for a source that knows only success and failure."""
    return next((result.error for result in results if result.outcome.retry), None)


def process_until_deadline(
    label: Callable[[S3Photo], PhotoResult],
    photos: Iterable[S3Photo],
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> list[PhotoResult]:
    """Label photos while time is left for one as slow as the slowest so far; the others get LATER.

    If Lambda stopped the function instead, the source would deliver all photos again, labelled ones included, and one
    slow photo could send a whole batch to the dead-letter queue. The first photo is always tried.

    Args:
        label: labels one photo.
        photos: the photos.
        deadline: time of ``clock`` at which Lambda stops the function.
        clock: seconds, monotonic.
    """
    results: list[PhotoResult] = []
    slowest = 0.0
    for photo in photos:
        started = clock()
        if results and started + slowest + _RESERVED_SECONDS > deadline:
            error = UnavailableError("the function ran out of time before this photo")
            results.append(PhotoResult(photo, Outcome.LATER, error=error))
            continue
        results.append(_label_safely(label, photo))
        slowest = max(slowest, clock() - started)
    return results


def _label_safely(label: Callable[[S3Photo], PhotoResult], photo: S3Photo) -> PhotoResult:
    try:
        return label(photo)
    except Exception as error:  # even a bug must not fail the other photos of the batch
        return PhotoResult(photo, outcome_of(error), error=error)
