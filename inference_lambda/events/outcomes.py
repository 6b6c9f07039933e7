"""What became of a photo, and what each source of events is told of it: one table for all of them.

==========  ==================================  ======================  ==========================  ================
outcome     the photo's record                  queue, notification,    S3 Batch Operations         direct, HTTP
                                                map
==========  ==================================  ======================  ==========================  ================
LABELLED    its prediction                      done                    ``Succeeded``               the prediction
UNUSABLE    why it can never be labelled        done                    ``PermanentFailure``        the error, 4xx
SKIPPED     none: a folder, a record of ours    done                    ``Succeeded``
LATER       none: throttled, 5xx, no time       sends it again          ``TemporaryFailure``        raised, 503
REFUSED     none: forbidden, no model, a bug    sends it again; at      ``PermanentFailure``: the   raised, 403
                                                last a dead letter      job's report lists it       or 502
==========  ==================================  ======================  ==========================  ================

What is refused waits for a person, who mends a policy or a model: it has no record, so that it is not taken for done.
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

_SPARE = 1.0
"""Seconds of the function's time that are kept for what follows the photos: tags, events, metrics, the answer."""


class Outcome(Enum):
    """What became of one photo, and what its source is told of it.

    Attributes:
        again: whether the source is to send the photo again.
        code: what S3 Batch Operations is told.
    """

    LABELLED = "labelled", False, ResultCode.SUCCEEDED
    UNUSABLE = "unusable", False, ResultCode.PERMANENT
    SKIPPED = "skipped", False, ResultCode.SUCCEEDED
    LATER = "later", True, ResultCode.TEMPORARY
    REFUSED = "refused", True, ResultCode.PERMANENT

    def __init__(self, _: str, again: bool, code: ResultCode) -> None:
        self.again = again
        self.code = code


_OF_A_PHOTO: tuple[tuple[type[Exception], Outcome], ...] = (
    (PhotoError, Outcome.UNUSABLE),
    (MissingStoreError, Outcome.REFUSED),
    (NotFoundError, Outcome.UNUSABLE),
)
"""What an error of fetching and decoding says of the photo itself; the first that matches."""


def outcome_of(error: Exception, *, of_photo: bool = False) -> Outcome:
    """What an error comes to: raised by fetching or decoding a photo, or by the model, the output and all the rest."""
    for kind, outcome in _OF_A_PHOTO if of_photo else ():
        if isinstance(error, kind):
            return outcome
    retryable = isinstance(error, TransferLiteError) and error.retryable
    return Outcome.LATER if retryable else Outcome.REFUSED


def code_of(error: Exception) -> str:
    """A stable word for an error, for records and metrics."""
    if isinstance(error, PhotoError):
        return error.code
    if isinstance(error, MissingStoreError):
        return "no-bucket"
    if isinstance(error, NotFoundError):
        return "missing"
    if isinstance(error, TransferLiteError):
        return type(error).__name__
    return "internal"


@dataclass(frozen=True)
class Result:
    """One photo's outcome, with its record where it has one and what went wrong where something did."""

    photo: S3Photo
    outcome: Outcome
    record: dict[str, Any] | None = None
    error: Exception | None = None

    def failed(self, error: Exception) -> "Result":
        """The same photo after something that goes with its record failed: it is to be sent again."""
        return replace(self, outcome=outcome_of(error), error=error)


def first_error(results: Iterable[Result]) -> Exception | None:
    """What to raise where a source knows only success and failure: the first error that is to be sent again."""
    return next((one.error for one in results if one.outcome.again), None)


def attempt_all(
    work: Callable[[S3Photo], Result],
    photos: Iterable[S3Photo],
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> list[Result]:
    """Each photo's result, those for which there is no time to be sent again.

    A function that is stopped at its deadline has all its photos sent again, those that it had done too; where one
    photo waits long for S3 each time, the others beside it would end among the dead letters. The first is always tried.
    """
    results: list[Result] = []
    longest = 0.0
    for photo in photos:
        begun = clock()
        if results and begun + longest + _SPARE > deadline:
            results.append(Result(photo, Outcome.LATER, error=UnavailableError("no time was left for it")))
            continue
        results.append(_attempt(work, photo))
        longest = max(longest, clock() - begun)
    return results


def _attempt(work: Callable[[S3Photo], Result], photo: S3Photo) -> Result:
    """The result of labelling one photo. Whatever goes wrong stays with it: other photos of the batch go on."""
    try:
        return work(photo)
    except Exception as error:  # a bug is no reason to fail the photos beside it
        return Result(photo, outcome_of(error), error=error)
