"""The model in service, which follows its channel without a new deployment."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from inference_lambda.settings import Settings
from runtime.errors import BundleError, NotFoundError, TransferLiteError
from runtime.predictor import Predictor
from runtime.registry import Registry

_log = logging.getLogger("transferlite")
_log.setLevel(logging.INFO)


class CurrentModel:
    """The predictor that the channel names, looked up again when the last look is older than the settings allow.

    A new version that does not load is refused, and the one in service stays.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._predictor: Predictor | None = None
        self._looked = float("-inf")

    def get(self) -> Predictor:
        """The predictor to use now.

        Raises:
            TransferLiteError: none was ever loaded, and none can be.
        """
        now = self._clock()
        if self._predictor is None:
            self._predictor = self._first()
        elif now - self._looked >= self._settings.refresh_seconds:
            self._follow(self._predictor.manifest.model_id)
        else:
            return self._predictor
        self._looked = now
        return self._predictor

    def _first(self) -> Predictor:
        """What the channel names or, if that cannot be served, the newest it named before that can."""
        registry = Registry.open(self._settings.registry)
        if registry.keys is None:
            _log.info(json.dumps({"event": "signatures-unchecked", "reason": "TRANSFERLITE_PUBLIC_KEY is not set"}))
        pointer = registry.channel(self._settings.channel)
        refused: list[TransferLiteError] = []
        for model_id in (pointer.model_id, *pointer.previous):
            try:
                return self._load(model_id)
            except (BundleError, NotFoundError) as error:
                refused.append(error)
                _log.error(json.dumps({"event": "model-refused", "model_id": model_id, "reason": str(error)}))
        raise refused[0]

    def _follow(self, serving: str) -> None:
        try:
            named = Registry.open(self._settings.registry).resolve(self._settings.channel)
            if named != serving:
                self._predictor = self._load(named)
                shutil.rmtree(_cache() / serving, ignore_errors=True)  # /tmp is small, and environments live for hours
                _log.info(json.dumps({"event": "model-changed", "from": serving, "to": named}))
        except (TransferLiteError, OSError) as error:
            _log.error(json.dumps({"event": "model-kept", "serving": serving, "reason": str(error)}))

    def _load(self, model_id: str) -> Predictor:
        settings = self._settings
        return Predictor.from_registry(settings.registry, model_id=model_id, variant=settings.variant, cache=_cache())


def _cache() -> Path:
    return Path(tempfile.gettempdir()) / "transferlite"
