"""Current model version, which follows its channel without a deployment, and versions that callers request by id."""

import datetime
import json
import logging
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from inference_lambda.settings import Settings
from transferlite.errors import BundleError, NotFoundError, TransferLiteError, UnavailableError
from transferlite.predict.predictor import Predictor
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import check_model_id
from transferlite.registry.model_cache import clear_cache
from transferlite.registry.open_registry import Registry
from transferlite.storage.deadline import call_in_time

MAX_PINNED = 2
"""Versions kept loaded for requests that name them, besides the current one; each takes memory and space in /tmp."""

_FIRST_WAIT_SECONDS = 1.0
"""Time after a second failure in a row until loading is tried again; doubled by each further failure."""

_log = logging.getLogger("transferlite")
_log.setLevel(logging.INFO)


class CurrentModel:
    """Predictor of the version that the channel points to; the pointer is cached for ``refresh_seconds``.

    A new version that fails to load is refused, the current one stays, and the new one is not tried again until the
    pointer changes. Without any version, a failure is remembered too: callers get it again until a wait is over, which
    grows from 1 s to ``refresh_seconds``. Thread-safe: one thread loads a new version, others use the current one.

    Logs ``model-changed``, ``model-refused`` (once per version), ``model-kept`` (at each refresh after which the
    current version is not the channel's) and ``pointer-expired`` (at each refresh).

    Args:
        settings: registry, channel, variant and refresh time.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()  # held while a version loads
        self._current: Predictor | None = None
        self._pinned: OrderedDict[str, Predictor] = OrderedDict()  # least recently used first
        self._refused: dict[str, BundleError] = {}  # since the pointer last changed
        self._pointer: tuple[Pointer, str] | None = None  # with its ETag
        self._refreshed_at = float("-inf")
        self._failure: TransferLiteError | None = None  # why no version is loaded
        self._failures = 0
        self._retry_at = float("-inf")

    def get(self, model_id: str | None = None) -> Predictor:
        """Return the current predictor, or the one of version ``model_id`` in the same registry.

        Raises:
            NotFoundError: the registry has no such channel or version, or the version lacks the configured variant.
            InputError: ``model_id`` is not a valid id.
            TransferLiteError: no version of the channel, or not the requested one, can be loaded.
        """
        if model_id is not None:
            return self._get_pinned(model_id)
        if self._current is None:
            with self._lock:
                self._current = self._current or self._load_first_unless_failed()
        elif self._is_stale() and self._lock.acquire(blocking=False):
            try:
                self._follow_channel(self._current.manifest.model_id)
            finally:
                self._lock.release()
        return self._current

    def loaded(self) -> Predictor:
        """Return the current predictor without reading anything. Raises TransferLiteError if there is none."""
        if self._current is None:
            raise self._failure or UnavailableError("no model is loaded yet", hint="send a photo")
        return self._current

    def expire_pointer(self) -> None:
        """Make the next :meth:`get` read the channel pointer again."""
        self._refreshed_at = float("-inf")

    def _is_stale(self) -> bool:
        return self._clock() - self._refreshed_at >= self._settings.refresh_seconds

    def _load_first_unless_failed(self) -> Predictor:
        """Load the first version, or raise the last failure again if its wait is not over."""
        if self._failure is not None and self._clock() < self._retry_at:
            raise self._failure.with_traceback(None)
        try:
            return self._load_first()
        except TransferLiteError as error:
            self._failure = error
            self._retry_at = self._clock() + self._wait_seconds()
            self._failures += 1
            raise

    def _wait_seconds(self) -> float:
        """Return how long to remember a failure: the first one, perhaps of the cold start, is not remembered."""
        if not self._failures:
            return 0.0
        return min(_FIRST_WAIT_SECONDS * 2.0 ** (self._failures - 1), self._settings.refresh_seconds)

    def _load_first(self) -> Predictor:
        """Load the channel's version or, if that fails, the newest earlier version of the channel that loads.

        Files of a process that Lambda killed in this environment are deleted first: they would fill /tmp.
        """
        pointer = self._read_pointer()
        clear_cache(_cache_folder(), pointer.model_id)
        errors: list[TransferLiteError] = []
        for model_id in (pointer.model_id, *pointer.previous):
            try:
                return self._load(model_id)
            except BundleError as error:
                errors.append(error)
            except NotFoundError as error:
                errors.append(error)
                _log_refused(model_id, error)
        raise errors[0]

    def _follow_channel(self, current_id: str) -> None:
        """Load the channel's version if it has changed; on any error keep the current one."""
        try:
            channel_id = self._read_pointer().model_id
            if channel_id != current_id:
                self._current = self._pinned.pop(channel_id, None) or self._load(channel_id)
                _delete_cached_files(current_id)
                _log.info(json.dumps({"event": "model-changed", "from": current_id, "to": channel_id}))
        except (TransferLiteError, OSError) as error:
            _log.error(json.dumps({"event": "model-kept", "serving": current_id, "reason": str(error)}))

    def _read_pointer(self) -> Pointer:
        """Read the channel pointer; if it has changed, refused versions may be tried again."""
        self._refreshed_at = self._clock()
        uri = self._settings.registry
        registry = call_in_time(lambda: Registry.open(uri), uri)  # fetches a public key that AWS KMS has
        if registry.keys is None and self._pointer is None:
            _log.info(json.dumps({"event": "signatures-unchecked", "reason": "TRANSFERLITE_PUBLIC_KEY is not set"}))
        pointer = registry.followed_channel(self._settings.channel, self._pointer)
        if pointer is not self._pointer:
            self._pointer = pointer
            self._refused.clear()
        if pointer[0].is_expired(datetime.datetime.now(datetime.UTC)):
            _log.error(json.dumps({"event": "pointer-expired", "expires_at": pointer[0].expires_at}))
        return pointer[0]

    def _get_pinned(self, model_id: str) -> Predictor:
        """Return a requested version; load it if needed, and then unload the least recently used one."""
        with self._lock:
            if self._current is not None and self._current.manifest.model_id == model_id:
                return self._current
            predictor = self._pinned.pop(model_id, None) or self._load(check_model_id(model_id))
            self._pinned[model_id] = predictor
            if len(self._pinned) > MAX_PINNED:
                _delete_cached_files(self._pinned.popitem(last=False)[0])
            return predictor

    def _load(self, model_id: str) -> Predictor:
        if model_id in self._refused:
            raise self._refused[model_id]
        settings = self._settings
        try:
            return Predictor.from_registry(
                settings.registry, model_id=model_id, variant=settings.variant, cache=_cache_folder()
            )
        except BundleError as error:
            self._refused[model_id] = BundleError(error.message, where=error.where, hint=error.hint)
            _log_refused(model_id, error)
            _delete_cached_files(model_id)
            raise


def _log_refused(model_id: str, error: TransferLiteError) -> None:
    _log.error(json.dumps({"event": "model-refused", "model_id": model_id, "reason": str(error)}))


def _cache_folder() -> Path:
    return Path(tempfile.gettempdir()) / "transferlite"


def _delete_cached_files(model_id: str) -> None:
    """Delete a version's files: /tmp is small, and execution environments live for hours."""
    shutil.rmtree(_cache_folder() / model_id, ignore_errors=True)
