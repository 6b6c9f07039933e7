"""Label photos with the current model: fetch, predict, write the record, and reply to the event's source."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from inference_lambda.current_model import CurrentModel
from inference_lambda.decode_apart import decode_apart
from inference_lambda.events.batch_operations import BatchOperationsJob
from inference_lambda.events.batch_operations_reply import batch_operations_reply
from inference_lambda.events.distributed_map import MapItems
from inference_lambda.events.distributed_map_reply import distributed_map_reply
from inference_lambda.events.outcomes import (
    Outcome,
    PhotoResult,
    describe_error,
    error_code,
    outcome_of,
    process_until_deadline,
)
from inference_lambda.events.parse import DirectInvocation, DriftCheck
from inference_lambda.events.s3 import S3Notification, S3Photo
from inference_lambda.events.s3_reply import s3_reply
from inference_lambda.events.sqs import SqsBatch
from inference_lambda.events.sqs_reply import sqs_reply
from inference_lambda.observability.telemetry import Metrics, log
from inference_lambda.observability.tracing import Trace
from inference_lambda.records.photo_source import fetch_photo, is_current
from inference_lambda.records.tags_events_lines import write_tags_events_lines
from inference_lambda.records.write_record import record_key, write_record
from inference_lambda.settings import RECORDS_PREFIX, Settings
from transferlite.errors import ConflictError, InputError, TransferLiteError
from transferlite.images.input_spec import READ_BYTES
from transferlite.inference.prediction import UNKNOWN, Prediction
from transferlite.predict.predictor import Predictor
from transferlite.storage.locations import open_store, read_uri
from transferlite.storage.store import Store

_MAX_ATTEMPTS = 3
"""Attempts to label a photo that is overwritten while it is being labelled."""


class Service:
    """Labels photos with the current model. Every ``deadline`` is a time of ``time.monotonic()``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = CurrentModel(settings)
        self.trace = Trace()
        self.metrics = Metrics(settings.metrics, self.trace.add_phase)

    def predict(self, predictor: Predictor, data: bytes, top: int = 3, apart: bool = False) -> Prediction:
        """Predict an encoded photo, and measure decoding and inference; ``apart`` decodes in a process of its own.

        Raises PhotoError.
        """
        from transferlite.images.decoder import decode  # NumPy and Pillow, imported after the handler module

        with self.metrics.phase("Decode"):
            image = (decode_apart if apart else decode)(data, predictor.manifest.input)
        with self.metrics.phase("Invoke"):
            prediction = predictor(image, top)
        self.metrics.count_prediction(prediction.to_dict(), predictor.manifest.labels, UNKNOWN)
        return prediction

    # -- one method per event source -----------------------------------------------------------------------------------

    def predict_direct(self, request: DirectInvocation) -> dict[str, Any]:
        """Return the prediction for a direct invocation, or ``{"error": {"code", "message"}}`` for a rejected photo.

        Raises:
            NotFoundError: the registry does not have the requested version.
            TransferLiteError: the photo cannot be read now, or no model can be loaded.
        """
        if request.uri is not None and not self.settings.allows(request.uri):
            self.metrics.count("Errors", "Code", "forbidden")
            return {"error": {"code": "forbidden", "message": "the bucket is not in TRANSFERLITE_ALLOWED_BUCKETS"}}
        predictor = self.model.get(request.model_id)
        try:
            with self.trace.photo(request.uri or "") as annotations:
                prediction = self.predict(predictor, self._fetch_direct(request)).to_dict()
                annotations.update(_trace_annotations(prediction))
                return prediction
        except TransferLiteError as error:
            self.metrics.count("Errors", "Code", error_code(error))
            if outcome_of(error, of_photo=True) is not Outcome.UNUSABLE:
                raise
            return {"error": describe_error(error)}

    def label_notification(self, notification: S3Notification, deadline: float = math.inf) -> dict[str, Any]:
        """Label the photos of an S3 notification; see :func:`s3_reply` for the reply and errors."""
        return s3_reply(self._label_photos(notification.photos, deadline))

    def label_sqs_batch(self, batch: SqsBatch, deadline: float = math.inf) -> dict[str, Any]:
        """Label the photos of every SQS message; see :func:`sqs_reply` for the reply."""
        return sqs_reply(batch, self._label_photos(batch.photos, deadline, batch.repeated_photos))

    def label_map_items(self, items: MapItems, deadline: float = math.inf) -> dict[str, Any]:
        """Label the items of a Distributed Map; see :func:`distributed_map_reply` for the reply and errors."""
        return distributed_map_reply(self._label_photos(items.photos, deadline))

    def label_batch_operations(self, job: BatchOperationsJob, deadline: float = math.inf) -> dict[str, Any]:
        """Label the objects of an S3 Batch Operations job; see :func:`batch_operations_reply` for the reply."""
        return batch_operations_reply(job, self._label_photos(job.photos, deadline))

    def check_drift(self, request: DriftCheck) -> dict[str, Any]:
        """Measure drift of the records in the output bucket, as ``transferlite drift`` does.

        The current version's drift becomes metrics.
        """
        from transferlite.monitoring.drift import LARGE, find_drift

        records = f"s3://{self._output_bucket()}/{self.settings.lines_prefix or RECORDS_PREFIX}"
        _, drifts = find_drift(records, self.settings.registry, request.since)
        current_id = self.model.get().manifest.model_id
        for drift in drifts:
            if drift.model_id == current_id and drift.classes and drift.confidence:
                self.metrics.model_id = current_id
                self.metrics.gauge("DriftOfClasses", drift.classes.value)
                self.metrics.gauge("DriftOfConfidence", drift.confidence.value)
                self.metrics.gauge("DriftOver", float(drift.exceeds(LARGE)))
        return {
            "since": request.since,
            "models": [drift.to_dict() | {"over": drift.exceeds(LARGE)} for drift in drifts],
        }

    # -- labelling -----------------------------------------------------------------------------------------------------

    def _label_photos(
        self, photos: Sequence[S3Photo], deadline: float, apart: frozenset[S3Photo] = frozenset()
    ) -> list[PhotoResult]:
        """Label photos independently of each other, and write their records, tags, events and lines.

        The photos ``apart`` are decoded in processes of their own.
        """
        output = open_store(f"s3://{self._output_bucket()}")
        results = process_until_deadline(partial(self._label_photo, output, apart), photos, deadline)
        results = write_tags_events_lines(results, output, self.settings)
        for result in results:
            self._report(result, output)
        return results

    def _label_photo(self, output: Store, apart: frozenset[S3Photo], photo: S3Photo) -> PhotoResult:
        """Label one photo and write its record; start again if the photo was overwritten meanwhile."""
        if photo.key.endswith("/") or self.settings.is_own_output(photo.bucket, photo.key):
            return PhotoResult(photo, Outcome.SKIPPED)
        with self.trace.photo(photo.uri) as annotations:
            for _ in range(_MAX_ATTEMPTS):
                record, etag = self._make_record(photo, photo in apart)
                with self.metrics.phase("Write"):
                    stored = write_record(output, record_key(photo), record, partial(is_current, photo, etag))
                if stored is not None:
                    annotations.update(_trace_annotations(stored))
                    return PhotoResult(photo, Outcome.UNUSABLE if "error" in stored else Outcome.LABELLED, stored)
            raise ConflictError(f"overwritten during each of {_MAX_ATTEMPTS} attempts to label it", where=photo.uri)

    def _make_record(self, photo: S3Photo, apart: bool) -> tuple[dict[str, Any], str]:
        """Return the record of the photo's current content, and the ETag of that content (empty if missing)."""
        predictor = self.model.get()
        record: dict[str, Any] = {"image": photo.uri, **({"version": photo.version_id} if photo.version_id else {})}
        etag = ""
        try:
            with self.metrics.phase("Fetch"):
                blob = fetch_photo(photo)
            etag = blob.etag
            record |= {"etag": etag.strip('"'), **({"modified": _utc(blob.modified)} if blob.modified else {})}
            return record | self.predict(predictor, blob.data, apart=apart).to_dict(), etag
        except TransferLiteError as error:
            if outcome_of(error, of_photo=True) is not Outcome.UNUSABLE:
                raise
            return record | {"model_id": predictor.manifest.model_id, "error": describe_error(error)}, etag

    def _report(self, result: PhotoResult, output: Store) -> None:
        """Log the result and count it."""
        self.metrics.count(f"Photos{result.outcome.name.capitalize()}")
        if result.outcome.retry and result.error is not None:
            self.metrics.count("Errors", "Code", error_code(result.error))
            line = {"event": "failed", "image": result.photo.uri, "code": error_code(result.error)}
            bug = None if isinstance(result.error, TransferLiteError) else result.error
            log.error(json.dumps(line | {"reason": str(result.error)}), exc_info=bug)
        elif result.record is not None:
            if "error" in result.record:
                self.metrics.count("Errors", "Code", result.record["error"]["code"])
            uri = f"{output.uri}/{record_key(result.photo)}"
            log.info(json.dumps({"event": "labelled", "record": uri, **result.record}, ensure_ascii=False))

    def _fetch_direct(self, request: DirectInvocation) -> bytes:
        if request.uri is None:
            return request.image or b""
        with self.metrics.phase("Fetch"):
            return read_uri(request.uri, READ_BYTES)

    def _output_bucket(self) -> str:
        if self.settings.output_bucket is None:
            raise InputError("TRANSFERLITE_OUTPUT_BUCKET is not set", hint="set it to the bucket for predictions")
        return self.settings.output_bucket


def _trace_annotations(record: Mapping[str, Any]) -> dict[str, str]:
    return {name: record[name] for name in ("label", "model_id") if name in record}


def _utc(seconds: float) -> str:
    """Format a Unix time as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
