"""One photo in service: fetch, predict, write; and what each source of events is told."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from inference_lambda.current_model import CurrentModel
from inference_lambda.events.batch_operations import Job, ResultCode
from inference_lambda.events.distributed_map import Items
from inference_lambda.events.outcomes import Outcome, Result, attempt_all, code_of, first_error, outcome_of
from inference_lambda.events.parse import Direct, DriftCheck
from inference_lambda.events.s3 import Batch, Notification, S3Photo
from inference_lambda.observability.telemetry import Metrics, log
from inference_lambda.observability.tracing import Trace
from inference_lambda.records.photo_source import fetch, is_current
from inference_lambda.records.prediction_record import record_key, write_record
from inference_lambda.records.tags_events_lines import accompany
from inference_lambda.settings import PREFIX, Settings
from transferlite.errors import ConflictError, InputError, TransferLiteError
from transferlite.images.input_spec import READ_BYTES
from transferlite.inference.prediction import UNKNOWN, Prediction
from transferlite.predict.predictor import Predictor
from transferlite.storage.locations import open_store, read_uri
from transferlite.storage.store import Store

_LOOKS = 3
"""How often a photo is looked at that is overwritten meanwhile."""


class Service:
    """Answers requests with the current model; a ``deadline`` is of ``time.monotonic()``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = CurrentModel(settings)
        self.trace = Trace()
        self.metrics = Metrics(settings.metrics, self.trace.add)

    def predict(self, predictor: Predictor, data: bytes, top: int = 3) -> Prediction:
        """The answer for an encoded photo, its phases measured. Raises PhotoError."""
        from transferlite.images.decoder import decode  # NumPy and Pillow, which a start need not wait for

        with self.metrics.phase("Decode"):
            picture = decode(data, predictor.manifest.input)
        with self.metrics.phase("Invoke"):
            found = predictor(picture, top)
        self.metrics.answered(found.to_dict(), predictor.manifest.labels, UNKNOWN)
        return found

    def answer(self, request: Direct) -> dict[str, Any]:
        """The prediction for a direct invocation, or ``{"error": {"code", "message"}}`` for a photo that has none.

        Raises:
            InputError: the registry has no such version as the invocation asks for.
        """
        if request.uri is not None and not self.settings.allows(request.uri):
            self.metrics.count("Errors", "Code", "forbidden")
            return {"error": {"code": "forbidden", "message": "its bucket is not in TRANSFERLITE_ALLOWED_BUCKETS"}}
        predictor = self.model.get(request.model_id)
        try:
            with self.trace.photo(request.uri or "") as told:
                found = self.predict(predictor, self._data(request)).to_dict()
                told.update(_searched_by(found))
                return found
        except TransferLiteError as error:
            self.metrics.count("Errors", "Code", code_of(error))
            if outcome_of(error, of_photo=True) is not Outcome.UNUSABLE:
                raise
            return {"error": _described(error)}

    def _data(self, request: Direct) -> bytes:
        if request.uri is None:
            return request.image or b""
        with self.metrics.phase("Fetch"):
            return read_uri(request.uri, READ_BYTES)

    def label(self, request: Notification, deadline: float = math.inf) -> dict[str, Any]:
        """Label every photo of a notification, each on its own, and write its record to the output bucket.

        Raises:
            Exception: the first error of a photo that is to be sent again, once all the others are done.
        """
        results = self._label_all(request.photos, deadline)
        error = first_error(results)
        if error is not None:
            raise error
        records = [one.record for one in results if one.record is not None]
        bad = sum(one.outcome is Outcome.UNUSABLE for one in results)
        return {"labelled": len(records) - bad, "unusable": bad, "records": records}

    def drain(self, request: Batch, deadline: float = math.inf) -> dict[str, Any]:
        """Label the photos of every message. Those that failed are named, so that the queue sends no other again.

        What can never succeed fails all the same: the queue then keeps it among its dead letters.
        """
        told = [one.content.photos if isinstance(one.content, Notification) else () for one in request.messages]
        results = iter(self._label_all([photo for photos in told for photo in photos], deadline))
        failed: list[str] = []
        for message, photos in zip(request.messages, told, strict=True):
            error = first_error([next(results) for _ in photos])
            error = message.content if isinstance(message.content, InputError) else error
            if error is not None:
                failed.append(message.id)
                log.error(json.dumps({"event": "message-failed", "message_id": message.id, "reason": str(error)}))
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}

    def label_items(self, request: Items, deadline: float = math.inf) -> dict[str, Any]:
        """Label a state machine's items as :meth:`label` does. Its payload is small: counts, no records."""
        counts = self.label(Notification(request.photos), deadline)
        return {"labelled": counts["labelled"], "unusable": counts["unusable"]}

    def run(self, request: Job, deadline: float = math.inf) -> dict[str, Any]:
        """Label the objects of a Batch Operations job's tasks; what is wrong with one is in the completion report."""
        good = {task.id: task.photo for task in request.tasks if isinstance(task.photo, S3Photo)}
        answers = dict(zip(good, map(_reported, self._label_all(list(good.values()), deadline)), strict=True))
        wrong = {task.id: str(task.photo) for task in request.tasks if isinstance(task.photo, InputError)}
        answers |= {name: (ResultCode.PERMANENT, reason) for name, reason in wrong.items()}
        return request.answer({task.id: answers[task.id] for task in request.tasks})

    def check_drift(self, request: DriftCheck) -> dict[str, Any]:
        """What ``transferlite drift`` finds in the output bucket; indices of the model in service become metrics."""
        from transferlite.monitoring.drift import LARGE, find_drift

        records = f"s3://{self._output_bucket()}/{self.settings.lines or PREFIX}"
        _, found = find_drift(records, self.settings.registry, request.since)
        serving = self.model.get().manifest.model_id
        for one in found:
            if one.model_id == serving and one.classes and one.confidence:
                self.metrics.model_id = serving
                self.metrics.gauge("DriftOfClasses", one.classes.value)
                self.metrics.gauge("DriftOfConfidence", one.confidence.value)
                self.metrics.gauge("DriftOver", float(one.exceeds(LARGE)))
        return {"since": request.since, "models": [one.to_dict() | {"over": one.exceeds(LARGE)} for one in found]}

    def _output_bucket(self) -> str:
        if self.settings.output_bucket is None:
            raise InputError("TRANSFERLITE_OUTPUT_BUCKET is not set", hint="set it to the predictions' bucket")
        return self.settings.output_bucket

    def _label_all(self, photos: Sequence[S3Photo], deadline: float) -> list[Result]:
        """Each photo's result, its record written where it has one, and what is to go with the record."""
        output = open_store(f"s3://{self._output_bucket()}")
        results = attempt_all(partial(self._label_one, output), photos, deadline)
        results = accompany(results, output, self.settings)
        for one in results:
            self._tell(one, output)
        return results

    def _label_one(self, output: Store, photo: S3Photo) -> Result:
        if photo.key.endswith("/") or self.settings.is_ours(photo.bucket, photo.key):
            return Result(photo, Outcome.SKIPPED)
        with self.trace.photo(photo.uri) as told:
            for _ in range(_LOOKS):
                record, etag = self._look(photo)
                with self.metrics.phase("Write"):
                    written = write_record(output, record_key(photo), record, partial(is_current, photo, etag))
                if written is not None:
                    told.update(_searched_by(written))
                    return Result(photo, Outcome.UNUSABLE if "error" in written else Outcome.LABELLED, written)
            raise ConflictError("is overwritten again and again", where=photo.uri)

    def _look(self, photo: S3Photo) -> tuple[dict[str, Any], str]:
        """The photo's record as it is now, and the ETag of what was seen."""
        predictor = self.model.get()
        about: dict[str, Any] = {"image": photo.uri, **({"version": photo.version} if photo.version else {})}
        etag = ""
        try:
            with self.metrics.phase("Fetch"):
                blob = fetch(photo)
            etag = blob.etag
            about |= {"etag": etag.strip('"'), **({"modified": _time(blob.modified)} if blob.modified else {})}
            return about | self.predict(predictor, blob.data).to_dict(), etag
        except TransferLiteError as error:
            if outcome_of(error, of_photo=True) is not Outcome.UNUSABLE:
                raise
            return about | {"model_id": predictor.manifest.model_id, "error": _described(error)}, etag

    def _tell(self, result: Result, output: Store) -> None:
        """Log what became of a photo, and count it."""
        self.metrics.count(f"Photos{result.outcome.name.capitalize()}")
        if result.outcome.again and result.error is not None:
            self.metrics.count("Errors", "Code", code_of(result.error))
            line = {"event": "failed", "image": result.photo.uri, "code": code_of(result.error)}
            bug = None if isinstance(result.error, TransferLiteError) else result.error
            log.error(json.dumps(line | {"reason": str(result.error)}), exc_info=bug)
        elif result.record is not None:
            if "error" in result.record:
                self.metrics.count("Errors", "Code", result.record["error"]["code"])
            place = f"{output.uri}/{record_key(result.photo)}"
            log.info(json.dumps({"event": "labelled", "record": place, **result.record}, ensure_ascii=False))


def _searched_by(answer: Mapping[str, Any]) -> dict[str, str]:
    """What a trace can be searched by."""
    return {name: answer[name] for name in ("label", "model_id") if name in answer}


def _described(error: TransferLiteError) -> dict[str, str]:
    return {"code": code_of(error), "message": error.message}


def _reported(result: Result) -> tuple[ResultCode, str]:
    """A task's result, and the text for the completion report."""
    if result.outcome.again:
        return result.outcome.code, str(result.error)
    if result.record is None:
        return result.outcome.code, "not a photo: a folder, or a record of ours"
    if "error" in result.record:
        return result.outcome.code, "{code}: {message}".format(**result.record["error"])
    return result.outcome.code, json.dumps({name: result.record[name] for name in ("label", "score")})


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
