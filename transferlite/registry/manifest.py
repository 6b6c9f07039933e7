"""A bundle: one model version as immutable files, described by a ``manifest.json`` that is written last.

A folder or prefix without a manifest is not a bundle, whatever else it holds; one with a manifest is complete, and each
file can be checked against the manifest's sha256.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from transferlite.errors import BundleError, InputError, NotFoundError
from transferlite.images.input_spec import DECODER_VERSION, InputSpec

if TYPE_CHECKING:  # a device without a key does without
    pass

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
LABELS = "labels.txt"
GOLDEN = "golden.json"
SCHEMA = 1


@dataclass(frozen=True)
class FileInfo:
    """One file of a bundle: its content's sha256 in hexadecimal and its size in bytes."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not (re.fullmatch(r"[0-9a-f]{64}", self.sha256) and type(self.size) is int and self.size >= 0):
            raise BundleError(f"{self.sha256!r} of {self.size!r} bytes describes no file")


class Variant(NamedTuple):  # a dataclass takes 0.4 ms of each start, this a tenth
    """One form of the model and what the gate measured of it on held-out photos.

    Attributes:
        path: a TFLite file, or the SavedModel's folder, below the bundle.
        size: bytes.
        runtime: the package that ran it.
        photos: how many held-out photos it was run on.
        accuracy: its share of right answers on them.
        agreement: the share on which its label is the Keras model's.
        max_difference: the largest difference of any probability from the Keras model's.
        milliseconds: what one photo took a TFLite file on one thread of the machine that trained it.
        in_float: the operations of an int8 file, named by their output, that compute in float32 because the gate did
            not let them through as integers; most files have none.
    """

    path: str
    size: int
    runtime: str
    photos: int
    accuracy: float
    agreement: float
    max_difference: float
    milliseconds: float | None = None
    in_float: tuple[str, ...] = ()


class GateResult(NamedTuple):
    """What the gate measured of one variant in one runtime, against the Keras model on the same held-out photos.

    Attributes:
        variant: its name.
        runtime: the package that ran it, and its version.
        photos: how many it was run on; 0 where it could not be run.
        accuracy: its share of right answers.
        accuracy_drop: by how much that is less than the Keras model's; below 0 where it is more.
        recall_drop: the most that any class's recall is less.
        agreement: the share of photos with the Keras model's label.
        max_difference: the largest difference of any probability; None where some were no numbers.
        failure: the limit that did not hold, in words; empty where all did.
    """

    variant: str
    runtime: str
    photos: int = 0
    accuracy: float = 0.0
    accuracy_drop: float = 0.0
    recall_drop: float = 0.0
    agreement: float = 0.0
    max_difference: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Manifest:
    """All that is known of a version. ``files`` holds every file of the bundle but the manifest and its signature.

    ``threshold`` is the probability below which the answer is ``unknown``; 0 answers every photo. ``golden`` is the
    file of test pictures (transferlite/predict/self_test.py); bundles made before there were any have none. ``gate``
    has a line for each variant and runtime, also of variants that were left out.
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
    gate: tuple[GateResult, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BundleError(_unknown_schema(self.schema), hint="update it")
        check_model_id(self.model_id)
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise BundleError("labels are missing or repeated")
        if not isinstance(self.golden, str):
            raise BundleError(f"the test pictures are named {self.golden!r}, which is no file")
        if not 0 <= self.threshold <= 1:
            raise BundleError(f"the threshold {self.threshold} is no probability")
        for path in self.files:
            if path.startswith("/") or ".." in path.split("/"):
                raise BundleError(f"the file {path!r} would leave the bundle")
            if path in {MANIFEST, SIGNATURE}:
                raise BundleError(f"the file {path!r} would describe itself")

    def to_dict(self) -> dict[str, Any]:
        """What the manifest holds, for JSON."""
        variants = {name: variant._asdict() for name, variant in self.variants.items()}
        return asdict(self) | {"variants": variants, "gate": [proof._asdict() for proof in self.gate]}

    def to_json(self) -> bytes:
        """The manifest's content as stored."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> "Manifest":
        """Read a stored manifest. Raises BundleError when it is damaged or of another schema."""
        try:
            raw = json.loads(data)
            if raw["schema"] != SCHEMA:
                raise BundleError(_unknown_schema(raw["schema"]), where=where, hint="update it")
            manifest = cls(
                **raw
                | {
                    "labels": tuple(raw["labels"]),
                    "input": InputSpec(**raw["input"]),
                    "variants": {name: _variant(value) for name, value in raw["variants"].items()},
                    "gate": tuple(GateResult(**value) for value in raw.get("gate", ())),
                    "files": {path: FileInfo(**value) for path, value in raw["files"].items()},
                }
            )
        except BundleError as error:
            raise BundleError(error.message, where=where, hint=error.hint) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise BundleError(f"the manifest cannot be read ({error})", where=where) from error
        roots = {path.split("/")[0] for path in manifest.files}
        for name, variant in manifest.variants.items():
            if variant.path not in roots:
                raise BundleError(
                    f"the variant {name} is {variant.path!r}, which is no file of the bundle", where=where
                )
        if manifest.golden and manifest.golden not in manifest.files:
            raise BundleError(f"the test pictures {manifest.golden!r} are no file of the bundle", where=where)
        return manifest

    def tflite_variants(self) -> tuple[str, ...]:
        """The names of the variants that are TFLite files."""
        return tuple(name for name, value in self.variants.items() if value.path.endswith(".tflite"))

    def serving_files(self, variants: Iterable[str]) -> dict[str, FileInfo]:
        """The files that serving these variants takes: theirs, the labels and the test pictures.

        The record of the training is not among them.

        Raises:
            NotFoundError: the bundle has no such variant; the message says why where the gate left it out.
        """
        roots = {LABELS, self.golden, *(self.variant(name).path for name in variants)}
        return {path: info for path, info in self.files.items() if path in roots or path.split("/")[0] in roots}

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises NotFoundError."""
        if name not in self.variants:
            reason = self.left_out.get(name, f"it has {', '.join(self.variants)}")
            raise NotFoundError(f"model {self.model_id} has no variant {name!r} ({reason})")
        return self.variants[name]


def _variant(raw: Mapping[str, Any]) -> Variant:
    return Variant(**{**raw, "in_float": tuple(raw.get("in_float", ()))})


def _unknown_schema(schema: object) -> str:
    return f"manifest schema {schema} is unknown; this release reads {SCHEMA}"


def is_model_id(name: str) -> bool:
    """Whether a name can be a model id, and so is safe as a folder's name."""
    return re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,99}", name) is not None


def check_model_id(model_id: str) -> str:
    """The id itself. Raises InputError if it cannot be one."""
    if not is_model_id(str(model_id)):
        raise InputError(f"{model_id!r} is not a model id", hint="transferlite models list shows them")
    return model_id
