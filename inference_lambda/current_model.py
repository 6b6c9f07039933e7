"""The model in service, which follows its channel without a new deployment, and versions that callers ask for."""

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
from transferlite.errors import BundleError, NotFoundError, TransferLiteError
from transferlite.predict.predictor import Predictor
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import check_model_id
from transferlite.registry.open_registry import Registry

PINNED = 2
"""Versions kept loaded beside the one in service, because requests named them: the memory and /tmp of so many."""

_log = logging.getLogger("transferlite")
_log.setLevel(logging.INFO)


class CurrentModel:
    """The predictor that the channel names, looked up again when the last look is older than the settings allow.

    A new version that does not load is refused, and the one in service stays; it is not tried again before the
    channel's pointer changes. Threads may share it: one loads, the others go on with what is loaded.

    The log says ``model-changed``, ``model-refused`` (once a version) and ``model-kept`` (at each look that left the
    function with another version than the channel names).
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._loading = threading.Lock()
        self._serving: Predictor | None = None
        self._pinned: OrderedDict[str, Predictor] = OrderedDict()  # the longest unused first
        self._refused: dict[str, BundleError] = {}  # since the pointer last changed
        self._pointer: tuple[Pointer, str] | None = None  # and its ETag
        self._looked = float("-inf")

    def get(self, model_id: str | None = None) -> Predictor:
        """The predictor to use now, or the one of a version of the same registry.

        Raises:
            NotFoundError: the registry has no version ``model_id``, or none of the variant that is served.
            InputError: ``model_id`` cannot be one.
            TransferLiteError: none was ever loaded, and none can be, or ``model_id`` cannot be.
        """
        if model_id is not None:
            return self._version(model_id)
        if self._serving is None:
            with self._loading:
                self._serving = self._serving or self._first()
        elif self._clock() - self._looked >= self._settings.refresh_seconds and self._loading.acquire(blocking=False):
            try:
                self._follow(self._serving.manifest.model_id)
            finally:
                self._loading.release()
        return self._serving

    def look_again(self) -> None:
        """Let the next :meth:`get` ask the channel, however short ago that was by the clock."""
        self._looked = float("-inf")

    def _first(self) -> Predictor:
        """What the channel names or, if that cannot be served, the newest it named before that can."""
        self._refused.clear()
        pointer = self._look()
        refused: list[TransferLiteError] = []
        for model_id in (pointer.model_id, *pointer.previous):
            try:
                return self._load(model_id)
            except BundleError as error:
                refused.append(error)
            except NotFoundError as error:
                refused.append(error)
                _tell_refused(model_id, error)
        raise refused[0]

    def _follow(self, serving: str) -> None:
        try:
            named = self._look().model_id
            if named != serving:
                self._serving = self._pinned.pop(named, None) or self._load(named)
                _forget(serving)
                _log.info(json.dumps({"event": "model-changed", "from": serving, "to": named}))
        except (TransferLiteError, OSError) as error:
            _log.error(json.dumps({"event": "model-kept", "serving": serving, "reason": str(error)}))

    def _look(self) -> Pointer:
        """What the channel names now. A pointer that has changed takes refusals back."""
        self._looked = self._clock()
        registry = Registry.open(self._settings.registry)
        if registry.keys is None and self._pointer is None:
            _log.info(json.dumps({"event": "signatures-unchecked", "reason": "TRANSFERLITE_PUBLIC_KEY is not set"}))
        found = registry.followed_channel(self._settings.channel, self._pointer)
        if found is not self._pointer:
            self._pointer = found
            self._refused.clear()
        return found[0]

    def _version(self, model_id: str) -> Predictor:
        """The version asked for; of those kept loaded beside the one in service, the longest unused makes room."""
        with self._loading:
            if self._serving is not None and self._serving.manifest.model_id == model_id:
                return self._serving
            found = self._pinned.pop(model_id, None) or self._load(check_model_id(model_id))
            self._pinned[model_id] = found
            if len(self._pinned) > PINNED:
                _forget(self._pinned.popitem(last=False)[0])
            return found

    def _load(self, model_id: str) -> Predictor:
        if model_id in self._refused:
            raise self._refused[model_id]
        settings = self._settings
        try:
            return Predictor.from_registry(
                settings.registry, model_id=model_id, variant=settings.variant, cache=_cache()
            )
        except BundleError as error:
            self._refused[model_id] = BundleError(error.message, where=error.where, hint=error.hint)
            _tell_refused(model_id, error)
            _forget(model_id)
            raise


def _tell_refused(model_id: str, error: TransferLiteError) -> None:
    _log.error(json.dumps({"event": "model-refused", "model_id": model_id, "reason": str(error)}))


def _cache() -> Path:
    return Path(tempfile.gettempdir()) / "transferlite"


def _forget(model_id: str) -> None:
    """Remove the copy of a version: /tmp is small, and environments live for hours."""
    shutil.rmtree(_cache() / model_id, ignore_errors=True)
