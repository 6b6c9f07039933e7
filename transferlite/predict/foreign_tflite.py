"""A ``.tflite`` classifier that no manifest describes: what it does not say itself, the user says."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transferlite.errors import BundleError, InputError
from transferlite.images.input_spec import DECODER_VERSION, LIKE_DECODERS, InputSpec
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.inference.normalisation import Normalisation
from transferlite.inference.tflite_metadata import FileMetadata, read_labels, read_metadata
from transferlite.registry.local_bundle import sha256_of
from transferlite.registry.manifest import Manifest


def open_foreign_tflite(
    path: Path,
    labels: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    threads: int | None = None,
) -> tuple[Manifest, TFLiteClassifier]:
    """The classifier in a TFLite file, and a manifest with what is known of it.

    Its input is uint8, int8 or float32 RGB ``[1, H, W, 3]``, its output of any of these types. Photos are decoded and
    resized as for our own models. Scores are what the file answers: if those are no probabilities, they are none here.

    Args:
        path: the file.
        labels: a text file, a label a line, instead of those in the file's metadata.
        mean: of the normalisation ``(pixel - mean) / std`` of pixels 0 to 255, one number or three, instead of what the
            metadata say. Float inputs need it from one of both.
        std: the same.
        threads: for the interpreter; all cores if None.

    Raises:
        InputError: there is no such file, labels or normalisation are missing, or their number does not fit.
        BundleError: it is not such a classifier, or was trained with a photo decoder unlike this one.
    """
    for one in (path, labels):
        if one is not None and not one.is_file():
            raise InputError("there is no such file", where=str(one))
    said = read_metadata(path)
    model = TFLiteClassifier(path, threads, _normalisation(said, mean, std))
    names = _labels(path, said, labels)
    if len(names) != model.classes:
        raise InputError(
            f"answers {model.classes} labels, and there are {len(names)}",
            where=str(path),
            hint="give --labels a text file with as many lines, in the model's order",
        )
    return _manifest(path, said, names, model), model


def _normalisation(
    said: FileMetadata, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalisation | None:
    """The user's, or else the file's. One that changes nothing is as good as none, where pixels are not float."""
    if (mean is None) != (std is None):
        raise InputError("of mean and std, one is missing", hint="give both")
    chosen = (tuple(mean), tuple(std)) if mean is not None and std is not None else (said.mean, said.std)
    return Normalisation(*chosen) if all(chosen) else None


def _labels(path: Path, said: FileMetadata, file: Path | None) -> tuple[str, ...]:
    """The labels, of which those that are there more than once, as in ImageNet's, get their number."""
    if file is None and not said.labels:
        raise InputError("has no labels inside", where=str(path), hint="give --labels a text file, a label a line")
    try:
        names = said.labels if file is None else read_labels(file.read_bytes())
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", where=str(file)) from error
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} ({place})" for place, name in enumerate(names))


def _manifest(path: Path, said: FileMetadata, labels: tuple[str, ...], model: TFLiteClassifier) -> Manifest:
    about = said.about
    decoder = about.get("decoder_version", DECODER_VERSION)
    if decoder not in LIKE_DECODERS:
        raise BundleError(
            f"was trained with photo decoder {decoder}; this release has {DECODER_VERSION}",
            where=str(path),
            hint="install the TransferLite release that trained it, or train again",
        )
    return Manifest(
        model_id=about.get("model_id") or _file_id(path),
        created_at=about.get("created_at", ""),
        labels=labels,
        input=InputSpec(model.height, model.width, about.get("resize", "bicubic")),
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


def _file_id(path: Path) -> str:
    """An id that tells this content from any other, and names the file: ``mobilenet_v1-3f9a1c07``."""
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", path.stem).strip("_.-")[:80]
    return f"{name or 'model'}-{sha256_of(path)[:8]}"
