"""A job's frozen backbone: its weights and feature spaces, extraction of missing rows, and their tables in memory."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from export.keras_to_tflite.translate_model import translate_to_tflite
from train_job.backbones.build import build_backbone, feature_model, weights_sha256
from train_job.backbones.catalog import BACKBONES, Backbone, has_packaged_weights
from train_job.backbones.efficientnet_lite import EFFICIENTNET_LITE, EfficientNetLite, imagenet_sha256
from train_job.backbones.efficientnet_lite_file import efficientnet_lite_tflite
from train_job.backbones.fine_tune_cut import Cut, find_cut
from train_job.backbones.weights_identity import weights_identity
from train_job.backbones.weights_source import weights_source
from train_job.data.augmentation import AUGMENTATION_VERSION, PLAIN, view_names
from train_job.data.example import Example
from train_job.digests import Digests
from train_job.extraction.backbone_files import BackboneFiles, no_conversions
from train_job.extraction.choose_runtime import dtype_policy, engine, gpu_names
from train_job.extraction.extract_features import ExtractionResult, extract_features
from train_job.extraction.forward_pass import ForwardPass, available_cores, gpu_forward_pass, litert_forward_pass
from train_job.extraction.result_writer import FeatureRequest
from train_job.head.row_sets import FeatureTable
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.store.compaction import compact, count_small_parts
from train_job.store.conversion_store import ConversionStore
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import TransferLiteError
from transferlite.images.input_spec import InputSpec

MAX_SMALL_PARTS = 32
"""Small parts of one kind that may accumulate before an extraction merges them."""


class FrozenBackbone:
    """A backbone with its weights, and the feature spaces of its rows.

    What was made of the same weights before is read from ``conversions``, so that a known backbone is not even built.

    Args:
        options: the job's options.
        conversions: where conversions are kept; None keeps none.

    Attributes:
        gpus: names of the GPUs.
        backbone: entry of the table.
        spec: the input's size.
        sha256: hash of the weights before any fine-tuning.
        cut: cut for fine-tuning; None without fine-tuning.
        views: names of each training photo's views.
        files: files made of the backbone before any fine-tuning.
    """

    def __init__(self, options: TrainOptions, conversions: ConversionStore | None = None) -> None:
        self.options = options
        self.gpus = gpu_names()
        self.backbone: Backbone = BACKBONES[options.backbone]
        size = options.image_size or self.backbone.size
        self.spec = InputSpec(size, size, options.resize)
        packaged = has_packaged_weights(self.backbone, options.weights)
        self._packaged: EfficientNetLite | None = EFFICIENTNET_LITE[self.backbone.name] if packaged else None
        self._conversions = conversions or no_conversions()
        self.sha256 = imagenet_sha256(self._packaged) if self._packaged else self._weights_sha256()
        self.cut: Cut | None = find_cut(self.keras_model, options.fine_tune_from) if options.fine_tune_from else None
        self.views = view_names(options.augment, options.views)
        self.files = BackboneFiles(
            (self.backbone.name, self.sha256), self.spec, lambda: self.feature_model, self._conversions, self._write
        )

    def _weights_sha256(self) -> str:
        source = weights_identity(self.backbone, self.options.weights, self.options.seed)
        make = lambda: weights_sha256(self.keras_model).encode()  # noqa: E731
        return self._conversions.read_or_make({"file": "weights_sha256"} | source, make).decode()

    @property
    def _write(self) -> Callable[[], bytes] | None:
        """A function that writes the TFLite file in less time than the store needs to read it, if there is one."""
        return partial(efficientnet_lite_tflite, self._packaged, self.spec) if self._packaged else None

    @cached_property
    def keras_model(self) -> Any:
        """The backbone in Keras, normalised ``[N, H, W, 3]`` to ``[N, h, w, C]``, built on first use."""
        shape = (self.spec.height, self.spec.width, 3)
        return build_backbone(self.backbone, shape, self.options.weights, self.options.seed)

    def manifest_entry(self) -> dict[str, Any]:
        """The backbone's entry in the manifest; the hash is of its weights before any fine-tuning."""
        entry = {"name": self.backbone.name, "weights": self.options.weights, "weights_sha256": self.sha256}
        return entry | weights_source(self.backbone, self.options.weights)

    @cached_property
    def feature_model(self) -> Any:
        """The Keras model from float RGB 0 to 255 ``[N, H, W, 3]`` to feature rows ``[N, D]``, built on first use."""
        return feature_model(self.keras_model, self.backbone, self.spec)

    def fine_tuned_files(self) -> "BackboneFiles":
        """Files made of the backbone after fine-tuning. They are not kept: no other job has the same weights."""
        key = (self.backbone.name, weights_sha256(self.keras_model))
        return BackboneFiles(key, self.spec, lambda: self.feature_model, no_conversions())

    def forward_pass(self) -> ForwardPass:
        """The fastest forward pass on this machine."""
        if self.gpus:
            return gpu_forward_pass(self._extraction_model, self.gpus)
        content = self.files.tflite if self.cut is None else translate_to_tflite(self._extraction_model())
        return litert_forward_pass(content, available_cores())

    def _extraction_model(self) -> Any:
        """The feature model with a second output at the cut; on GPUs a copy in their dtype policy."""
        model = self.keras_model
        if self.gpus:
            model = build_backbone(self.backbone, (self.spec.height, self.spec.width, 3), "none", self.options.seed)
            model.set_weights(self.keras_model.get_weights())
        return feature_model(model, self.backbone, self.spec, self.cut)

    @property
    def feature_request(self) -> FeatureRequest:
        """Feature spaces of each view: the pooled rows, and the activations at the cut if there is one."""
        layers = {"pool": self.backbone.width}
        if self.cut is not None:
            shape = self.cut.tensor(self.keras_model).shape[1:]
            layers[self.cut.space_name(self.keras_model)] = int(np.prod(shape))
        return FeatureRequest(
            {view: tuple(self._space(view, *layer) for layer in layers.items()) for view in self.views}
        )

    def _space(self, view: str, layer: str, width: int) -> FeatureSpace:
        return FeatureSpace(
            self.backbone.name,
            self.sha256,
            self.spec,
            width,
            layer,
            view,
            dtype_policy(self.gpus),
            engine(self.gpus),
            AUGMENTATION_VERSION if view != PLAIN else 0,
        )


def extract_missing(
    backbone: FrozenBackbone,
    examples: Sequence[Example],
    store: FeatureStore,
    report: Reporter,
    stop: Callable[[], bool],
) -> ExtractionResult:
    """Compute the feature rows that ``store`` lacks, log the counts, and compact the store if it has many small parts.

    Raises as :func:`~train_job.extraction.extract_features.extract_features`.
    """
    request = backbone.feature_request
    extracted = extract_features(examples, request, store, backbone.spec, backbone.forward_pass, report, stop)
    counts = extracted.counts
    engine = f"; {counts.engine}, waiting for photos {counts.waiting:.0%} of the time" if counts.forwarded else ""
    report.line(
        f"features: {counts.fetched} photos fetched, {counts.forwarded} images run through the backbone,"
        f" {counts.reused} photos reused{engine}"
    )
    if counts.forwarded:
        _compact(request, store, report)
    return extracted


def _compact(request: FeatureRequest, store: FeatureStore, report: Reporter) -> None:
    """Merge small parts, which slow down listing and reading; a failure only warns."""
    part_stores = [
        store.photo_parts,
        store.facts_parts,
        *(store.row_parts(space) for spaces in request.spaces.values() for space in spaces),
    ]
    for parts in part_stores:
        try:
            if count_small_parts(parts) > MAX_SMALL_PARTS:
                compact(parts)
        except TransferLiteError as error:
            report.warning(f"the feature store could not be compacted: {error}")


def gather_feature_rows(
    request: FeatureRequest, store: FeatureStore, hashes: Mapping[str, Sequence[str] | Digests], folder: Path
) -> tuple[list[FeatureTable], list[str]]:
    """Read a table for each output of the feature model: the rows of ``hashes[view]``, view after view.

    The tables are files in ``folder`` mapped into memory. Also returns the hashes whose rows the store has lost.
    """
    total = sum(map(len, hashes.values()))
    tables: list[FeatureTable] = []
    lost: list[str] = []
    for output, space in enumerate(next(iter(request.spaces.values()))):
        table = np.lib.format.open_memmap(folder / f"rows-{output}.npy", "w+", np.float16, (total, space.width))
        start = 0
        for view, view_hashes in hashes.items():
            stop = start + len(view_hashes)
            lost += store.read(request.spaces[view][output], view_hashes, table[start:stop])
            start = stop
        tables.append(table)
    return tables, lost
