"""The frozen base as one job uses it: built with its weights, run over what is new, its rows gathered in a table."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from train_job.backbones.build import build_backbone, feature_model, weights_sha256
from train_job.backbones.catalog import BACKBONES, Backbone, has_packaged_weights
from train_job.backbones.efficientnet_lite import State, imagenet_sha256, read_imagenet
from train_job.backbones.fine_tune_cut import Cut, find_cut
from train_job.backbones.litert.efficientnet_lite_file import feature_file
from train_job.data.augmentation import view_names
from train_job.data.dataset import Example
from train_job.extraction.extract_features import ExtractionResult, FeatureRequest, extract_features
from train_job.extraction.forward_pass import ForwardPass, cores, devices, fastest, precision, with_litert
from train_job.head.row_sets import Table
from train_job.options import TrainOptions
from train_job.progress import Reporter
from train_job.store.compaction import compact, small_parts
from train_job.store.feature_store import FeatureSpace, FeatureStore
from transferlite.errors import TransferLiteError
from transferlite.images.input_spec import InputSpec
from transferlite.storage.locations import open_store, split_uri

SMALL_PARTS = 32
"""So many small parts of one kind are left alone; more are merged at the end of an extraction."""


class FrozenBackbone:
    """A base with its weights, and what its rows are called in a feature store."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options
        self.gpus = devices()
        self.backbone: Backbone = BACKBONES[options.backbone]
        size = options.image_size or self.backbone.size
        self.spec = InputSpec(size, size)
        packaged = has_packaged_weights(self.backbone, options.weights)
        self._state: State | None = read_imagenet() if packaged else None
        self.sha256 = imagenet_sha256() if packaged else weights_sha256(self.keras)
        self.cut: Cut | None = find_cut(self.keras, options.fine_tune_from) if options.fine_tune_from else None
        self.views = view_names(options.augment, options.views)

    @cached_property
    def keras(self) -> Any:
        """The base in Keras, normalised ``[N, H, W, 3]`` to ``[N, h, w, C]``; built when it is first needed."""
        shape = (self.spec.height, self.spec.width, 3)
        weights, seed = self.options.weights, self.options.seed
        if "://" not in weights:
            return build_backbone(self.backbone, shape, weights, seed)
        root, key = split_uri(weights)
        with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
            path = Path(folder, Path(key).name)
            open_store(root).download(key, path)
            return build_backbone(self.backbone, shape, str(path), seed)

    def described(self) -> dict[str, Any]:
        """The base for the manifest; the hash is of its weights before any fine-tuning."""
        return {"name": self.backbone.name, "weights": self.options.weights, "weights_sha256": self.sha256}

    @cached_property
    def features(self) -> Any:
        """The Keras model from float RGB ``[N, H, W, 3]`` to pooled rows ``[N, D]``."""
        return feature_model(self.keras, self.backbone, self.spec)

    def forward(self) -> ForwardPass:
        """The fastest way to run it here."""
        if self._state and self.cut is None and not self.gpus:
            return with_litert(feature_file(self._state, self.spec), cores())
        return fastest(self._outputs, self.gpus)

    def _outputs(self) -> Any:
        """The feature model, with a second output at the cut; on GPUs of a base of its own, in their precision."""
        base = self.keras
        if self.gpus:
            base = build_backbone(self.backbone, (self.spec.height, self.spec.width, 3), "none", self.options.seed)
            base.set_weights(self.keras.get_weights())
        return feature_model(base, self.backbone, self.spec, self.cut)

    @property
    def wanted(self) -> FeatureRequest:
        """The spaces of each view: the pooled rows', and the activations' at the cut."""
        layers = {"pool": self.backbone.width}
        if self.cut is not None:
            layers[f"layer-{self.cut.below}"] = int(np.prod(self.cut.tensor(self.keras).shape[1:]))
        return FeatureRequest(
            {view: tuple(self._space(view, *layer) for layer in layers.items()) for view in self.views}
        )

    def _space(self, view: str, layer: str, width: int) -> FeatureSpace:
        kind = precision(self.gpus)
        return FeatureSpace(self.backbone.name, self.sha256, self.spec, width, layer, view, kind)


def extract_new(
    base: FrozenBackbone,
    examples: Sequence[Example],
    store: FeatureStore,
    report: Reporter,
    stop: Callable[[], bool],
) -> ExtractionResult:
    """Have ``store`` hold the rows of every photo, and say what that took."""
    extracted = extract_features(examples, base.wanted, store, base.spec, base.forward, report, stop)
    counts = extracted.counts
    waited = f"; {counts.engine}, {counts.waiting:.0%} of the time waiting for photos" if counts.forwarded else ""
    report.line(
        f"features: {counts.fetched} photos fetched, {counts.forwarded} images forwarded, {counts.reused} photos known"
        + waited
    )
    if counts.forwarded:
        _compact(base.wanted, store, report)
    return extracted


def _compact(wanted: FeatureRequest, store: FeatureStore, report: Reporter) -> None:
    """Merge the parts that many runs have left, so that they stay quick to list and read; not at any price."""
    shelves = [
        store.photo_shelf,
        store.facts_shelf,
        *(store.shelf(space) for spaces in wanted.spaces.values() for space in spaces),
    ]
    for shelf in shelves:
        try:
            if small_parts(shelf) > SMALL_PARTS:
                compact(shelf)
        except TransferLiteError as error:
            report.warning(f"the feature store could not be compacted: {error}")


def gather_rows(
    wanted: FeatureRequest, store: FeatureStore, hashes: Mapping[str, Sequence[str]], folder: Path
) -> tuple[list[Table], list[str]]:
    """A table for each output of the base: the rows of ``hashes[view]``, one view after another.

    The tables are files in ``folder`` mapped into memory. Also returns the hashes of which the store has lost a row.
    """
    total = sum(map(len, hashes.values()))
    tables: list[Table] = []
    lost: list[str] = []
    for output, space in enumerate(next(iter(wanted.spaces.values()))):
        table = np.lib.format.open_memmap(folder / f"rows-{output}.npy", "w+", np.float16, (total, space.width))
        start = 0
        for name, several in hashes.items():
            lost += store.read(wanted.spaces[name][output], several, table[start : start + len(several)])
            start += len(several)
        tables.append(table)
    return tables, lost
