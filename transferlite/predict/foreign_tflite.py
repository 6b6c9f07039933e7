"""Load a ``.tflite`` classifier without a bundle: options and the file's own metadata replace the manifest."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transferlite.errors import BundleError, InputError
from transferlite.images.input_spec import COMPATIBLE_DECODERS, DECODER_VERSION, SQUASH, InputSpec
from transferlite.inference.classifier_file import check_classifier, check_is_tflite
from transferlite.inference.interpreter import TFLiteClassifier, load_interpreter
from transferlite.inference.mean_and_std import Normalisation
from transferlite.inference.tflite_metadata import FileMetadata, read_metadata
from transferlite.predict.labels_file import read_labels_file
from transferlite.registry.local_bundle import sha256_of
from transferlite.registry.manifest import Manifest


def open_foreign_tflite(
    path: Path,
    labels: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    threads: int | None = None,
    resize: str | None = None,
) -> tuple[Manifest, TFLiteClassifier]:
    """Load the classifier in a TFLite file; return a manifest built from its metadata, and the model.

    The input is uint8, int8 or float32 RGB ``[1, H, W, 3]``; the output has any of these types. Photos are decoded and
    resized as for our own models. Scores are the file's raw outputs: logits stay logits.

    Args:
        path: the file.
        labels: text file as in :func:`~transferlite.predict.labels_file.read_labels_file`; overrides the file's
            metadata.
        mean: mean of the normalisation ``(pixel - mean) / std`` for pixels 0 to 255, one number or three; overrides
            the file's metadata. Float inputs need a normalisation from one of the two.
        std: standard deviation of the same normalisation.
        threads: interpreter threads; all cores if None.
        resize: resize mode as in :class:`~transferlite.images.input_spec.InputSpec`; if None, that of the file's
            metadata, or ``squash``.

    Raises:
        InputError: no such file; labels or normalisation are missing, invalid or of the wrong length, or the input
            takes no normalisation.
        NotClassifierError: not a TFLite file, or not such a classifier.
        BundleError: the runtime cannot load the file, its metadata are damaged, or it was trained with an incompatible
            photo decoder.
    """
    for file in (path, labels):
        if file is not None and not file.is_file():
            raise InputError("there is no such file", where=str(file))
    metadata = _read_metadata(path)
    model = TFLiteClassifier(path, threads, _normalisation(metadata, mean, std))
    if mean is not None and model.takes_raw_pixels:
        raise InputError(
            "takes pixels of 0 to 255 as they are: mean and std do not apply", where=str(path), hint="leave them out"
        )
    names = _labels(path, metadata, labels)
    if len(names) != model.classes:
        raise InputError(
            f"the model has {model.classes} outputs but {len(names)} labels",
            where=str(path),
            hint="give --labels a text file with one line per output, in the model's order",
        )
    return _manifest(path, metadata, names, model, resize), model


def _read_metadata(path: Path) -> FileMetadata:
    """Read the metadata; if they cannot be read, the reason may be that the file is not a classifier at all."""
    check_is_tflite(path)
    try:
        return read_metadata(path)
    except BundleError:
        check_classifier(load_interpreter(path, threads=1), str(path))
        raise


def _normalisation(
    metadata: FileMetadata, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalisation | None:
    """The given normalisation, or the file's; None if neither exists."""
    if (mean is None) != (std is None):
        raise InputError("mean and std must be given together", hint="give both or neither")
    if mean is not None and std is not None:
        return Normalisation(tuple(mean), tuple(std))
    return Normalisation(metadata.mean, metadata.std) if metadata.mean and metadata.std else None


def _labels(path: Path, metadata: FileMetadata, file: Path | None) -> tuple[str, ...]:
    """Labels of the text file, or of the metadata. Duplicates, as in ImageNet, get their index appended."""
    if file is None and not metadata.labels:
        raise InputError("contains no labels", where=str(path), hint="give --labels a text file, one label per line")
    names = metadata.labels if file is None else read_labels_file(file)
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))


def _manifest(
    path: Path, metadata: FileMetadata, labels: tuple[str, ...], model: TFLiteClassifier, resize: str | None
) -> Manifest:
    about = metadata.about
    decoder = about.get("decoder_version", DECODER_VERSION)
    if decoder not in COMPATIBLE_DECODERS:
        raise BundleError(
            f"was trained with photo decoder {decoder}; this release has {DECODER_VERSION}",
            where=str(path),
            hint="install the TransferLite release that trained it, or train again",
        )
    return Manifest(
        model_id=about.get("model_id") or _file_id(path),
        created_at=about.get("created_at", ""),
        labels=labels,
        input=_input_spec(path, model, resize or about.get("resize", SQUASH)),
        backbone={"name": about.get("backbone", "")},
        training={},
        dataset={},
        metrics={},
        variants={},
        left_out={},
        software={},
        threshold=about.get("threshold", 0.0),
        decoder_version=decoder,
    )


def _input_spec(path: Path, model: TFLiteClassifier, resize: str) -> InputSpec:
    try:
        return InputSpec(model.height, model.width, resize)
    except InputError as error:
        raise InputError(error.message, where=str(path), hint=error.hint) from None


def _file_id(path: Path) -> str:
    """A model id from the file's name and content, such as ``mobilenet_v1-3f9a1c07``."""
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", path.stem).strip("_.-")[:80]
    return f"{name or 'model'}-{sha256_of(path)[:8]}"
