"""Predict the label of a photo: the same class in the CLI, in Lambda, on edge devices and in the export gate."""

import gc
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transferlite import environment
from transferlite.errors import BundleError
from transferlite.images.input_spec import COMPATIBLE_DECODERS, DECODER_VERSION
from transferlite.inference.prediction import UNKNOWN, UNLIKE, Prediction, predict_label
from transferlite.inference.variants import AUTO
from transferlite.registry.local_bundle import check_files, choose_variant, find_bundle, read_manifest
from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:  # import_runtime() imports these at run time
    import numpy as np
    from numpy.typing import NDArray

    from transferlite.images.decoder import Photo
    from transferlite.inference.interpreter import TFLiteClassifier
    from transferlite.predict.familiarity import Familiarity
    from transferlite.trust.keys import PublicKeys


class Predictor:
    """A verified, loaded model. Thread-safe: photos are decoded in parallel, forward passes run one at a time.

    Attributes:
        manifest: description of the model version.
        variant: the loaded variant, such as ``int8``; empty for a plain .tflite file.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: "TFLiteClassifier",
        variant: str = "",
        familiarity: "Familiarity | None" = None,
    ) -> None:
        self.manifest = manifest
        self.variant = variant
        self._model = model
        self._familiarity = familiarity

    @property
    def resolution(self) -> float:
        """Step between two probabilities of the variant, such as 1/256; 0 if its output is float."""
        return self._model.resolution

    @classmethod
    def load(
        cls,
        path: str | Path,
        variant: str | None = None,
        threads: int | None = None,
        public_key: str | None = None,
    ) -> "Predictor":
        """Load a bundle folder, or a folder that ``transferlite models pull`` fills.

        Args:
            path: the folder.
            variant: which TFLite file, such as ``float32`` or ``int8``; if None or ``auto``, the one that the manifest
                chooses or, if it was not copied, the one that the bundle holds.
            threads: interpreter threads; all cores if None.
            public_key: path of a PEM file; ``$TRANSFERLITE_PUBLIC_KEY`` if None. Without either, signatures are not
                checked.

        Raises:
            NotFoundError: no bundle, or no such variant in it.
            UntrustedError: no accepted key signed the bundle.
            BundleError: a file is missing or altered, the bundle needs a newer release, or the self-test failed.
        """
        bundle = find_bundle(Path(path))
        manifest = read_manifest(bundle, _public_keys(public_key))
        if manifest.decoder_version not in COMPATIBLE_DECODERS:
            raise BundleError(
                f"was trained with photo decoder {manifest.decoder_version}; this release has {DECODER_VERSION}",
                where=str(bundle),
                hint="install the TransferLite release that trained it, or train again",
            )
        variant = choose_variant(bundle, manifest, variant)
        chosen = manifest.variant(variant)
        with _BackgroundTask(lambda: check_files(bundle, manifest.serving_files([variant]))):
            import_runtime()
        from transferlite.inference.interpreter import TFLiteClassifier
        from transferlite.predict.self_test import SelfTest

        model = TFLiteClassifier(bundle / chosen.path, threads)
        spec = manifest.input
        if (model.height, model.width, model.classes) != (spec.height, spec.width, len(manifest.labels)):
            raise BundleError("the model's shape differs from the manifest's", where=str(bundle / chosen.path))
        predictor = cls(manifest, model, variant, _read_familiarity(bundle, manifest))
        if manifest.golden:
            self_test = SelfTest.from_json((bundle / manifest.golden).read_bytes(), str(bundle / manifest.golden))
            self_test.check(variant, predictor.probabilities, str(bundle / chosen.path))
        return predictor

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        labels: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        threads: int | None = None,
        resize: str | None = None,
    ) -> "Predictor":
        """Load a ``.tflite`` classifier without a bundle: a foreign model, or one of ours on its own.

        Arguments that are None are read from the file's TFLite Metadata. See
        :func:`transferlite.predict.foreign_tflite.open_foreign_tflite` for the arguments and the errors raised.
        """
        from transferlite.predict.foreign_tflite import open_foreign_tflite

        return cls(*open_foreign_tflite(Path(path), Path(labels) if labels else None, mean, std, threads, resize))

    @classmethod
    def from_registry(
        cls,
        uri: str,
        channel: str = "production",
        model_id: str | None = None,
        variant: str | None = None,
        threads: int | None = None,
        cache: Path | None = None,
        public_key: str | None = None,
    ) -> "Predictor":
        """Load the version that ``channel`` points to, or ``model_id``.

        A remote bundle is copied to ``cache``, which keeps the last two versions used. Arguments and errors as in
        :meth:`load`, and the errors of :meth:`transferlite.registry.open_registry.Registry.pull`.
        """
        from transferlite.registry.open_registry import Registry, cache_folder

        registry = Registry.open(uri, public_key)
        chosen = registry.resolve(channel, model_id)
        with registry.local_bundle(chosen, cache or cache_folder(uri), [variant or AUTO]) as bundle:
            return cls.load(bundle, variant, threads, public_key)

    def __call__(self, photo: "Photo", top: int = 3) -> Prediction:
        """Predict one photo and keep the ``top`` most probable labels.

        ``photo`` is encoded (bytes or a local path) or decoded (uint8 RGB ``[H, W, 3]`` of any size, or a Pillow
        image).

        Raises:
            PhotoError: the photo cannot be decoded.
            InputError: no such file, an array that is not uint8 ``[H, W, 3]``, or an unsupported type.
            BundleError: a probability is not a finite number.
        """
        if self._familiarity is None:
            return self.prediction_from(self.probabilities(photo), top)
        from transferlite.images.decoder import model_input

        probabilities, row = self._model.with_features(model_input(photo, self.manifest.input))
        prediction = self.prediction_from(probabilities, top)
        if row is None:
            return prediction
        familiarity = self._familiarity.score(row, probabilities)
        if familiarity >= self._familiarity.threshold:
            return prediction._replace(familiarity=familiarity)
        return prediction._replace(familiarity=familiarity, label=UNKNOWN, reason=UNLIKE)

    def probabilities(self, photo: "Photo") -> "NDArray[np.float32]":
        """Probabilities ``[N]`` in the order of ``manifest.labels``; arguments and errors as in a call."""
        from transferlite.images.decoder import model_input

        return self._model(model_input(photo, self.manifest.input))

    def features(self, photo: "Photo") -> "NDArray[np.float32]":
        """Feature row ``[D]``: the backbone's pooled output, in which similar photos lie close together.

        Arguments and errors as in a call; BundleError also if the file has no output ``features``, as files of other
        tools.
        """
        from transferlite.images.decoder import model_input

        _, row = self._model.with_features(model_input(photo, self.manifest.input))
        if row is None:
            raise BundleError(
                f"model {self.manifest.model_id} does not return feature rows",
                hint="train the model again with this release, or use a bundle instead of the .tflite file",
            )
        return row

    def best_label(self, photo: "Photo") -> str:
        """Most probable label, even below the threshold; arguments and errors as in a call."""
        return self.manifest.labels[int(self.probabilities(photo).argmax())]

    def prediction_from(self, probabilities: "NDArray[np.float32]", top: int = 3) -> Prediction:
        """Build the :class:`Prediction` from probabilities ``[N]``; ties keep the order of the labels.

        Raises BundleError if a probability is not a finite number.
        """
        if not math.isfinite(abs(probabilities).max()):
            raise BundleError(f"model {self.manifest.model_id} gives scores that are not finite numbers")
        manifest = self.manifest
        return predict_label(
            manifest.model_id, manifest.labels, probabilities, manifest.threshold, top, manifest.negative
        )


def _public_keys(public_key: str | None) -> "PublicKeys | None":
    """The accepted keys; None if none is configured, which also saves importing the signature check."""
    if public_key is None and environment.PUBLIC_KEY not in os.environ:
        return None
    from transferlite.trust.open_keys import configured_public_keys

    return configured_public_keys(public_key)


def _read_familiarity(bundle: Path, manifest: Manifest) -> "Familiarity | None":
    if not manifest.familiarity:
        return None
    from transferlite.predict.familiarity import Familiarity

    path = bundle / manifest.familiarity
    return Familiarity.from_bytes(path.read_bytes(), str(path))


class _BackgroundTask(threading.Thread):
    """Run ``work`` in a thread; join it and re-raise its error on exit.

    ``ThreadPoolExecutor`` does the same, but importing it (with logging and queues) costs 3 ms of each start.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call ``work`` and keep its error."""
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
    """Import NumPy, Pillow and the TFLite runtime: the largest part of a cold start (benchmarks/edge.py).

    Garbage collection is off meanwhile: imports produce no garbage, and collecting takes 5% of the time. The thread
    switch interval is 20 times shorter, or the thread that hashes files would wait 2 ms for each of its system calls.
    """
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(interval / 20)
    try:
        import transferlite.images.decoder
        import transferlite.predict.self_test  # noqa: F401
        from transferlite.inference.interpreter import interpreter_class

        interpreter_class()
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()
