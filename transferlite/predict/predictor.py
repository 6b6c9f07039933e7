"""A photo in, a label out: the same call in the CLI, in Lambda, on a device and in the export gate."""

import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite import environment
from transferlite.errors import BundleError
from transferlite.images.input_spec import DECODER_VERSION, LIKE_DECODERS
from transferlite.inference.prediction import UNKNOWN, Prediction
from transferlite.registry.local_bundle import check_files, find_bundle, read_manifest
from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:  # at run time these wait for import_what_runs_it
    import numpy as np
    from numpy.typing import NDArray

    from transferlite.images.decoder import Photo
    from transferlite.inference.interpreter import TFLiteClassifier
    from transferlite.trust.keys import PublicKeys

DEFAULT_VARIANT = "float32"


class Predictor:
    """A loaded and verified bundle. Threads may share it: photos are decoded at once, forward passes take turns."""

    def __init__(self, manifest: Manifest, model: "TFLiteClassifier") -> None:
        self.manifest = manifest
        self._model = model

    @property
    def resolution(self) -> float:
        """The step between two probabilities that the variant can tell apart; 0 where its output is float."""
        return self._model.resolution

    @classmethod
    def load(
        cls,
        path: str | Path,
        variant: str = DEFAULT_VARIANT,
        threads: int | None = None,
        public_key: str | None = None,
    ) -> "Predictor":
        """Load a bundle's folder (or one that ``transferlite models pull`` fills).

        Args:
            path: the folder.
            variant: which TFLite file, for example ``float32`` or ``int8``.
            threads: for the interpreter; all cores if None.
            public_key: a PEM file's path, by default ``$TRANSFERLITE_PUBLIC_KEY``; without, no signature is asked.

        Raises:
            NotFoundError: no bundle, or no such variant in it.
            UntrustedError: there is a public key, and it did not sign the bundle.
            BundleError: a file is missing or altered, the bundle needs a newer release, or the model does not answer
                the bundle's test pictures as it did when it was made.
        """
        bundle = find_bundle(Path(path))
        manifest = read_manifest(bundle, _keys(public_key))
        if manifest.decoder_version not in LIKE_DECODERS:
            raise BundleError(
                f"was trained with photo decoder {manifest.decoder_version}; this release has {DECODER_VERSION}",
                where=str(bundle),
                hint="install the TransferLite release that trained it, or train again",
            )
        chosen = manifest.variant(variant)
        with _BackgroundTask(lambda: check_files(bundle, manifest.serving_files([variant]))):
            import_runtime()
        from transferlite.inference.interpreter import TFLiteClassifier
        from transferlite.predict.self_test import SelfTest

        model = TFLiteClassifier(bundle / chosen.path, threads)
        spec = manifest.input
        if (model.height, model.width, model.classes) != (spec.height, spec.width, len(manifest.labels)):
            raise BundleError("the model's shape is not the manifest's", where=str(bundle / chosen.path))
        predictor = cls(manifest, model)
        if manifest.golden:
            golden = SelfTest.from_json((bundle / manifest.golden).read_bytes(), str(bundle / manifest.golden))
            golden.check(variant, predictor.probabilities, str(bundle / chosen.path))
        return predictor

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        labels: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        threads: int | None = None,
    ) -> "Predictor":
        """Load a classifier's ``.tflite`` file that no manifest describes: anyone's, or one of ours by itself.

        What is not given is taken from the file's TFLite Metadata. See
        :func:`transferlite.predict.foreign_tflite.open_foreign_tflite`, also for the errors raised.
        """
        from transferlite.predict.foreign_tflite import open_foreign_tflite

        return cls(*open_foreign_tflite(Path(path), Path(labels) if labels else None, mean, std, threads))

    @classmethod
    def from_registry(
        cls,
        uri: str,
        channel: str = "production",
        model_id: str | None = None,
        variant: str = DEFAULT_VARIANT,
        threads: int | None = None,
        cache: Path | None = None,
        public_key: str | None = None,
    ) -> "Predictor":
        """Load the version that a channel names, or ``model_id``, copying it to ``cache`` where it is remote."""
        from transferlite.registry.open_registry import Registry, cache_folder

        registry = Registry.open(uri, public_key)
        chosen = registry.resolve(channel, model_id)
        bundle = registry.local_bundle(chosen, cache or cache_folder(uri), [variant])
        return cls.load(bundle, variant, threads, public_key)

    def __call__(self, photo: "Photo", top: int = 3) -> Prediction:
        """The answer for an encoded photo (its bytes or its local path) or a decoded one.

        Decoded is uint8 RGB ``[H, W, 3]`` of any size, or an image that Pillow opened or made.

        Raises:
            PhotoError: the photo cannot be decoded.
            InputError: the array is not uint8 ``[H, W, 3]``, there is no such file, or it is no form of a photo.
        """
        return self.prediction_from(self.probabilities(photo), top)

    def probabilities(self, photo: "Photo") -> "NDArray[np.float32]":
        """The probability of each of ``manifest.labels``, ``[N]``; arguments and errors as in a call."""
        from transferlite.images.decoder import model_input

        return self._model(model_input(photo, self.manifest.input))

    def best_label(self, photo: "Photo") -> str:
        """The most probable label, however little sure; arguments and errors as in a call."""
        return self.manifest.labels[int(self.probabilities(photo).argmax())]

    def prediction_from(self, probabilities: "NDArray[np.float32]", top: int = 3) -> Prediction:
        """The :class:`Prediction` that these probabilities ``[N]`` amount to; equal ones in the labels' order."""
        best = (-probabilities).argsort(kind="stable")[: max(top, 1)]
        ranked = tuple((self.manifest.labels[i], float(probabilities[i])) for i in best)
        label, score = ranked[0]
        sure = score >= self.manifest.threshold or not self.manifest.threshold  # not all files answer probabilities
        return Prediction(self.manifest.model_id, label if sure else UNKNOWN, score, ranked[: max(top, 0)])


def _keys(public_key: str | None) -> "PublicKeys | None":
    """The keys to check with; without any, what checks them is not imported."""
    if not (public_key or os.environ.get(environment.PUBLIC_KEY)):
        return None
    from transferlite.trust.open_keys import configured_public_keys

    return configured_public_keys(public_key)


class _BackgroundTask(threading.Thread):
    """Does something while the context runs, whose end waits for it and raises what it raised.

    An executor does the same, and imports 3 ms of logging and queues.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None

    def run(self) -> None:
        """The work; its error is kept."""
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join()
        if self._error is not None:
            raise self._error


def import_runtime() -> None:
    """Import NumPy, Pillow and the TFLite runtime: most of a cold start, in which a second core hashes the files.

    Meanwhile the garbage collector rests, which finds nothing in what imports make and takes a twentieth of the time,
    and threads take turns twenty times as often: else the other one waits some 2 ms for each of its system calls.
    """
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(interval / 20)
    try:
        from transferlite.images import decoder as imaging
        from transferlite.inference import interpreter
        from transferlite.predict import self_test as golden

        assert golden
        assert imaging
        interpreter.interpreter_class()
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()
