"""Send a photo through a deployed stack and wait for its record."""

import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

from transferlite.cloud.stack import DeployedStack
from transferlite.errors import InputError, NotFoundError, TransferLiteError
from transferlite.storage.locations import open_store

_POLL_SECONDS = 1.0


def label_photo(stack: DeployedStack, photo: Path | None, seconds: float) -> dict[str, Any]:
    """Upload a photo below ``incoming/``, return its record, and delete both.

    Args:
        stack: the deployed stack, whose channel must point to a model.
        photo: a photo; None for a generated picture.
        seconds: longest time to wait.

    Raises:
        InputError: the file is missing.
        TransferLiteError: there is no record in time, or the record is an error.
    """
    if photo is not None and not photo.is_file():
        raise InputError("is not a file", where=str(photo), hint="pass a photo, or none for a generated picture")
    data = photo.read_bytes() if photo else _picture()
    bucket = stack.output("DataBucketName")
    key = f"{stack.parameters.get('DataPrefix', '')}incoming/transferlite-test/{uuid.uuid4().hex}.jpg"
    photos, records = open_store(f"s3://{bucket}"), open_store(f"s3://{stack.output('PredictionBucketName')}")
    record = f"predictions/{bucket}/{key}.json"
    photos.put(key, data)
    try:
        found: dict[str, Any] = json.loads(_wait(records, record, stack, seconds))
    finally:
        photos.delete(key)
    records.delete(record)
    if "error" in found:
        raise TransferLiteError(f"the record is an error: {found['error']}", where=f"stack {stack.name}")
    return found


def _wait(records: Any, key: str, stack: DeployedStack, seconds: float) -> bytes:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return bytes(records.get(key).data)
        except NotFoundError:
            time.sleep(_POLL_SECONDS)
    hint = f"transferlite cloud status --stack {stack.name}; transferlite cloud logs function --stack {stack.name}"
    raise TransferLiteError(
        f"no record of the test photo after {seconds:.0f} s", where=f"stack {stack.name}", hint=hint
    )


def _picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    return file.getvalue()
