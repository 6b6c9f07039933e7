"""Reply to a child execution of Step Functions' Distributed Map."""

from collections.abc import Sequence
from typing import Any

from inference_lambda.events.outcomes import PhotoResult
from inference_lambda.events.s3_reply import s3_reply


def distributed_map_reply(results: Sequence[PhotoResult]) -> dict[str, Any]:
    """Return the counts only, ``{"labelled", "unusable"}``: Step Functions limits a state's output to 256 KiB.

    Raises:
        Exception: the first error of a photo to retry; the state machine can then retry the item.
    """
    reply = s3_reply(results)
    return {"labelled": reply["labelled"], "unusable": reply["unusable"]}
