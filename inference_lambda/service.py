"""One photo in service: fetch, predict, write."""

import json
import logging
from collections.abc import Iterable
from typing import Any

from inference_lambda.batch_operations import Job, ResultCode
from inference_lambda.current_model import CurrentModel
from inference_lambda.distributed_map import Items
from inference_lambda.events import Direct
from inference_lambda.s3_events import Batch, Notification, S3Photo
from inference_lambda.settings import PREFIX, Settings
from runtime.errors import InputError, NotFoundError, PhotoError, TransferLiteError
from runtime.imaging import READ_BYTES
from runtime.locations import open_store, read_uri
from runtime.store import Store

_log = logging.getLogger("transferlite")
_log.setLevel(logging.INFO)


class Service:
    """Answers requests with the current model."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = CurrentModel(settings)

    def answer(self, request: Direct) -> dict[str, Any]:
        """The prediction for a direct invocation, or ``{"error": {"code", "message"}}`` for a photo that has none.

        Raises:
            InputError: the registry has no such version as the invocation asks for.
        """
        if request.uri is not None and not self.settings.allows(request.uri):
            return {"error": {"code": "forbidden", "message": "its bucket is not in TRANSFERLITE_ALLOWED_BUCKETS"}}
        predictor = self.model.get(request.model_id)
        try:
            data = request.image if request.uri is None else read_uri(request.uri, READ_BYTES)
            return predictor(data or b"").to_dict()
        except (PhotoError, NotFoundError) as error:
            return {"error": _described(error)}

    def label(self, request: Notification) -> dict[str, Any]:
        """Label every photo of a notification, each on its own, and write its record to the output bucket.

        A photo that cannot be labelled gets a record that says why: asking again would not help. Where S3 itself failed
        the error is raised once all the others are done, so that the event's source sends it again.
        """
        records = self._label_all(request.photos)
        bad = sum("error" in record for record in records)
        return {"labelled": len(records) - bad, "unusable": bad, "records": records}

    def drain(self, request: Batch) -> dict[str, Any]:
        """Label the photos of every message. Those that failed are named, so that the queue sends no other again.

        What can never succeed fails all the same: the queue then keeps it among its dead letters.
        """
        failed: list[str] = []
        for message in request.messages:
            try:
                if isinstance(message.content, InputError):
                    raise message.content
                self.label(message.content)
            except TransferLiteError as error:
                failed.append(message.id)
                _log.error(json.dumps({"event": "message-failed", "message": message.id, "reason": str(error)}))
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    def label_items(self, request: Items) -> dict[str, Any]:
        """Label a state machine's items as :meth:`label` does. Its payload is small: counts, no records."""
        counts = self.label(Notification(request.photos))
        return {"labelled": counts["labelled"], "unusable": counts["unusable"]}

    def run(self, request: Job) -> dict[str, Any]:
        """Label the objects of a Batch Operations job's tasks.

        A photo that cannot be labelled gets its record and is a permanent failure, so that the completion report lists
        it; what S3 may answer later is a temporary one.
        """
        return request.answer({task.id: self._result(task.photo) for task in request.tasks})

    def _result(self, photo: S3Photo | InputError) -> tuple[ResultCode, str]:
        try:
            if isinstance(photo, InputError):
                raise photo
            records = self._label_all([photo])
        except TransferLiteError as error:
            return (ResultCode.TEMPORARY if error.retryable else ResultCode.PERMANENT), str(error)
        if not records:
            return ResultCode.SUCCEEDED, "not a photo: a folder, or a record of ours"
        if "error" in records[0]:
            return ResultCode.PERMANENT, "{code}: {message}".format(**records[0]["error"])
        return ResultCode.SUCCEEDED, json.dumps({name: records[0][name] for name in ("label", "score")})

    def _label_all(self, photos: Iterable[S3Photo]) -> list[dict[str, Any]]:
        """The records of the photos, written. Raises the first error that is S3's once all the others are done."""
        if self.settings.output_bucket is None:
            raise InputError("TRANSFERLITE_OUTPUT_BUCKET is not set", hint="set it to the predictions' bucket")
        output = open_store(f"s3://{self.settings.output_bucket}")
        records: list[dict[str, Any]] = []
        failures: list[TransferLiteError] = []
        for photo in photos:
            ours = photo.bucket == self.settings.output_bucket and photo.key.startswith(PREFIX)
            if ours or photo.key.endswith("/"):
                continue  # a record of ours, which would go round for ever, or a folder made in the console
            try:
                records.append(self._label_one(photo, output))
            except TransferLiteError as error:
                failures.append(error)
                _log.error(json.dumps({"event": "failed", "image": photo.uri, "reason": str(error)}))
        if failures:
            raise failures[0]
        return records

    def _label_one(self, photo: S3Photo, output: Store) -> dict[str, Any]:
        predictor = self.model.get()
        try:
            answer = predictor(read_uri(photo.uri, READ_BYTES)).to_dict()
        except (PhotoError, NotFoundError) as error:
            answer = {"model_id": predictor.manifest.model_id, "error": _described(error)}
        record = {"image": photo.uri, **answer}
        key = f"{PREFIX}{photo.key}.json"
        output.put(key, json.dumps(record, ensure_ascii=False).encode())
        _log.info(json.dumps({"event": "labelled", "record": f"{output.uri}/{key}", **record}, ensure_ascii=False))
        return record


def _described(error: TransferLiteError) -> dict[str, str]:
    return {"code": error.code if isinstance(error, PhotoError) else "missing", "message": error.message}
