"""The manifest of a bundle, which is a model version as immutable files.

``manifest.json`` is written last: a folder or prefix without it is not a bundle, and one with it is complete. It holds
the sha256 of every file. Readers ignore fields that they do not know, and nothing rewrites a manifest: it is copied as
the bytes that were signed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from transferlite.errors import BundleError, InputError, NotFoundError
from transferlite.images.input_spec import DECODER_VERSION, InputSpec
from transferlite.inference.variants import AUTO, FLOAT32
from transferlite.registry.schema import MIN_RELEASE, SCHEMA, check_schema

MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
LABELS = "labels.txt"
GOLDEN = "golden.json"
FAMILIARITY = "familiarity.bin"


@dataclass(frozen=True)
class FileInfo:
    """A file of a bundle: hexadecimal sha256 and size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not (re.fullmatch(r"[0-9a-f]{64}", self.sha256) and type(self.size) is int and self.size >= 0):
            raise BundleError(f"invalid file entry: sha256 {self.sha256!r}, size {self.size!r}")


class Variant(NamedTuple):  # defining a dataclass takes 0.4 ms of each cold start, a NamedTuple 0.04 ms
    """A variant of the model, with the gate's measurements on held-out photos.

    Attributes:
        path: the TFLite file or SavedModel folder, relative to the bundle.
        size: in bytes.
        runtime: the package that ran it.
        photos: number of held-out photos.
        accuracy: share of correct predictions; None if the photos have no labels.
        agreement: share of photos with the Keras model's label.
        max_difference: largest difference of a probability from the Keras model's.
        milliseconds: time a photo of a TFLite file on one thread of the training machine.
        in_float: operations of an int8 file, named by their output, that compute in float32 because the file failed the
            gate with them as integers; usually empty.
    """

    path: str
    size: int
    runtime: str
    photos: int
    accuracy: float | None
    agreement: float
    max_difference: float
    milliseconds: float | None = None
    in_float: tuple[str, ...] = ()


class GateResult(NamedTuple):
    """The gate's comparison of a variant in a runtime with the Keras model, on the same held-out photos.

    Attributes:
        variant: the variant's name.
        runtime: the package that ran it, with its version.
        photos: number of photos; 0 if the variant could not run.
        accuracy: share of correct predictions; None if the photos have no labels.
        accuracy_drop: the Keras model's accuracy minus this one; negative if this one is better. Without labels, the
            drop expected from the Keras model's probabilities.
        recall_drop: largest drop of any class's recall.
        agreement: share of photos with the Keras model's label.
        max_difference: largest difference of a probability; None if some probabilities are NaN.
        failure: message about the limit that was exceeded; empty if the variant passed.
    """

    variant: str
    runtime: str
    photos: int = 0
    accuracy: float | None = 0.0
    accuracy_drop: float = 0.0
    recall_drop: float = 0.0
    agreement: float = 0.0
    max_difference: float | None = None
    failure: str = ""


class AutoVariant(NamedTuple):
    """The TFLite variant to serve by default, and the reason for it; without a variant, float32 if there is one."""

    variant: str = ""
    reason: str = ""


_NOT_CHOSEN = AutoVariant()


@dataclass(frozen=True)
class Manifest:
    """Description of a model version.

    Attributes:
        model_id: the version's id.
        created_at: in ISO form.
        labels: the classes, in the order of the model's outputs.
        input: the model's input size and resize filter.
        backbone: the frozen network.
        training: options and course of the training.
        dataset: the photos that were used.
        metrics: results on the test photos.
        variants: published variants by name.
        left_out: reason by name, for each variant that failed the gate.
        software: versions of the packages that made it.
        files: sha256 and size of every file of the bundle except the manifest and its signature.
        threshold: probability below which a prediction is ``unknown``; 0 for never.
        calibration: how the probabilities were calibrated.
        decoder_version: the photo decoder that training used.
        golden: file of self-test photos (``transferlite/predict/self_test.py``); empty in old bundles.
        familiarity: file that scores how much a photo is like the training photos
            (:mod:`transferlite.predict.familiarity`); empty without ``--reject-unlike``.
        negative: class of the photos that belong to none of the other classes; empty if there is none.
        gate: the gate's result for each variant and runtime, including variants that were left out.
        auto: variant to serve unless another is asked for, with the reason.
        schema: number of the manifest's schema (:mod:`transferlite.registry.schema`).
        min_release: first release that reads this schema.
    """

    model_id: str
    created_at: str
    labels: tuple[str, ...]
    input: InputSpec
    backbone: Mapping[str, Any]
    training: Mapping[str, Any]
    dataset: Mapping[str, Any]
    metrics: Mapping[str, Any]
    variants: Mapping[str, Variant]
    left_out: Mapping[str, str]
    software: Mapping[str, str]
    files: Mapping[str, FileInfo] = field(default_factory=dict)
    threshold: float = 0.0
    calibration: Mapping[str, Any] = field(default_factory=dict)
    decoder_version: int = DECODER_VERSION
    golden: str = ""
    familiarity: str = ""
    negative: str = ""
    gate: tuple[GateResult, ...] = ()
    auto: AutoVariant = _NOT_CHOSEN
    schema: int = SCHEMA
    min_release: str = MIN_RELEASE

    def __post_init__(self) -> None:
        check_model_id(self.model_id)
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise BundleError("labels are missing or repeated")
        for name in (self.golden, self.familiarity, self.negative):
            if not isinstance(name, str):
                raise BundleError(f"the name {name!r} is not a string")
        if not 0 <= self.threshold <= 1:
            raise BundleError(f"the threshold {self.threshold} is not a probability")
        for path in self.files:
            if path.startswith("/") or ".." in path.split("/"):
                raise BundleError(f"the file {path!r} would leave the bundle")
            if path in {MANIFEST, SIGNATURE}:
                raise BundleError(f"the file {path!r} would describe itself")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON-serialisable data."""
        variants = {name: variant._asdict() for name, variant in self.variants.items()}
        gate = [result._asdict() for result in self.gate]
        return asdict(self) | {"variants": variants, "gate": gate, "auto": self.auto._asdict()}

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Manifest":
        """Parse the stored form. Raises BundleError if it is damaged or of another schema."""
        try:
            raw = json.loads(data)
            check_schema(raw, "manifest")
            manifest = cls(
                **_known(raw, [field.name for field in fields(cls)])
                | {
                    "labels": tuple(raw["labels"]),
                    "input": InputSpec(**_known(raw["input"], [field.name for field in fields(InputSpec)])),
                    "variants": {name: _parse_variant(value) for name, value in raw["variants"].items()},
                    "gate": tuple(GateResult(**_known(value, GateResult._fields)) for value in raw.get("gate", ())),
                    "auto": AutoVariant(**_known(raw.get("auto", {}), AutoVariant._fields)),
                    "files": {path: FileInfo(value["sha256"], value["size"]) for path, value in raw["files"].items()},
                }
            )
            manifest._check_paths()
        except BundleError as error:
            raise BundleError(error.message, where=where, hint=error.hint) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise BundleError(f"the manifest cannot be read ({error})", where=where) from error
        return manifest

    def _check_paths(self) -> None:
        """Raise BundleError unless the named files are files of the bundle."""
        roots = {path.split("/")[0] for path in self.files}
        for name, variant in self.variants.items():
            if variant.path not in roots:
                raise BundleError(f"the variant {name} names {variant.path!r}, which is not a file of the bundle")
        for name in filter(None, (self.golden, self.familiarity)):
            if name not in self.files:
                raise BundleError(f"the file {name!r} is not in the bundle")

    @property
    def pretrained(self) -> bool:
        """Whether this is a network as it was pretrained, which learnt none of the user's photos."""
        return bool(self.training.get("pretrained"))

    @property
    def default_variant(self) -> str:
        """Name of the variant that ``auto`` means."""
        names = self.tflite_variants()
        return next((name for name in (self.auto.variant, FLOAT32, *names) if name in names), FLOAT32)

    def tflite_variants(self) -> tuple[str, ...]:
        """Return the names of the TFLite variants."""
        return tuple(name for name, variant in self.variants.items() if variant.path.endswith(".tflite"))

    def serving_files(self, variants: Iterable[str]) -> dict[str, FileInfo]:
        """Return the files needed to serve these variants: their own, and those that all variants share.

        Raises:
            NotFoundError: the bundle lacks a variant; if the gate left it out, the message gives the reason.
        """
        roots = {LABELS, self.golden, self.familiarity, *(self.variant(name).path for name in variants)}
        return {path: info for path, info in self.files.items() if path in roots or path.split("/")[0] in roots}

    def variant(self, name: str) -> Variant:
        """Return a variant by name, or the chosen one for ``auto``. Raises NotFoundError."""
        name = self.default_variant if name == AUTO else name
        if name not in self.variants:
            reason = self.left_out.get(name, f"it has {', '.join(self.variants)}")
            raise NotFoundError(f"model {self.model_id} has no variant {name!r} ({reason})")
        return self.variants[name]


def _parse_variant(raw: Mapping[str, Any]) -> Variant:
    return Variant(**{**_known(raw, Variant._fields), "in_float": tuple(raw.get("in_float", ()))})


def _known(raw: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the fields of ``raw`` with these names; others come from newer releases."""
    return {name: raw[name] for name in names if name in raw}


def is_model_id(name: str) -> bool:
    """Return whether a name is a valid model id, and so safe as a folder name."""
    return re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}", name) is not None


def check_model_id(model_id: str) -> str:
    """Return the model id. Raises InputError if it is not valid."""
    if not is_model_id(str(model_id)):
        raise InputError(f"{model_id!r} is not a model id", hint="list the models with: transferlite models list")
    return model_id
