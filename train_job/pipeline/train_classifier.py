"""Train and evaluate the classifier: features, splits, head, fine-tuning, evaluation.

The frozen backbone runs once per photo, and the head is trained on the resulting feature rows. With
``--fine-tune-from``, a second stage also trains the top of the backbone, on activations cached at the cut.
"""

import tempfile
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train_job.backbones.catalog import BACKBONES
from train_job.data.augmentation import view_names
from train_job.data.dataset import Dataset
from train_job.data.example import Split
from train_job.data.photos import SPLIT_CODES, Photos
from train_job.data.split import SplitShares
from train_job.data.split_table import SplitTable
from train_job.evaluation.evaluate import Evaluation
from train_job.extraction.backbone_files import BackboneFiles
from train_job.extraction.extract_features import ExtractionCounts
from train_job.extraction.frozen_backbone import FrozenBackbone
from train_job.extraction.prepare_export import ExportPreparation, PreparedExport
from train_job.head.checkpoint import Arrays, Checkpoint
from train_job.head.compiled_loop import PreparedProgram, ResourceLimits
from train_job.head.fine_tune import ROWS_PER_CALL, fine_tune
from train_job.head.fingerprint import training_fingerprint
from train_job.head.fit import fit_head
from train_job.head.model import Classifier, head_model
from train_job.head.recipe import Epoch, Recipe, fine_tune_recipe_from_options, recipe_from_options
from train_job.head.warm_start import head_arrays, warm_start
from train_job.options import TrainOptions
from train_job.pipeline.evaluate_classifier import EvaluatedClassifier, check_options, evaluate_classifier
from train_job.pipeline.prepare_data import JobContext, PreparedData, prepare_data, warm_start_obstacle
from train_job.pipeline.previous_version import PreviousVersion, read_previous_version
from train_job.quality.duplicates import NearDuplicates
from train_job.quality.findings import CheckResult
from train_job.quality.label_changes import LabelChanges, find_label_changes
from train_job.quality.label_issues import LabelIssue
from train_job.quality.learnt_photos import LearntPhotos, learnt_photos
from train_job.store.conversion_store import ConversionStore
from transferlite.inference.memory_budget import limit_decoding
from transferlite.storage.locations import open_store

_POOLED, _AT_CUT = 0, 1
"""Outputs of the backbone: pooled features, and the activations at the fine-tuning cut."""


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier with its data and evaluation.

    Attributes:
        classifier: the model, calibrated.
        dataset: usable photos.
        shares: shares of the splits.
        splits: split of each photo by its sha256.
        evaluated: predictions, scores and comparison with the majority baseline.
        label_issues: photos that are probably labelled wrong, the most certain first.
        history: all epochs, those of fine-tuning after those of the head.
        backbone: the manifest's entry for the backbone.
        head_weights: weights of the head on the frozen backbone, before calibration; a later job may start from them.
        extraction_counts: photos fetched, images forwarded, seconds.
        check: findings about the photos and labels.
        near_duplicates: groups of photos that look alike.
        new_uris: URIs of photos that no earlier training has fetched.
        previous: the channel's current version.
        export: work of the export that does not depend on the head, running on a thread.
        ancestors: photos that the weights of the warm start learnt from; empty after a cold start.
        warnings: sentences for the report.
    """

    classifier: Classifier
    dataset: Dataset
    shares: SplitShares
    splits: SplitTable
    evaluated: EvaluatedClassifier
    label_issues: list[LabelIssue]
    history: list[Epoch]
    backbone: dict[str, Any]
    head_weights: Arrays
    extraction_counts: ExtractionCounts
    check: CheckResult
    near_duplicates: NearDuplicates
    new_uris: frozenset[str]
    previous: PreviousVersion
    export: Future[PreparedExport]
    ancestors: LearntPhotos = field(default_factory=LearntPhotos)
    warnings: tuple[str, ...] = ()

    @property
    def evaluation(self) -> Evaluation:
        """Predictions and scores on each split."""
        return self.evaluated.evaluation

    @property
    def gate_split(self) -> Split:
        """Split on which the exported files are compared: the training photos if there are no test photos."""
        return Split.TRAIN if self.evaluation.cross_validated else Split.TEST

    @cached_property
    def split_codes(self) -> NDArray[np.int8]:
        """Code of each photo's split ``[N]``, in the order of the data set."""
        return self.splits.lookup(self.dataset.examples.digests)

    @property
    def tested_examples(self) -> Photos:
        """Photos of the test metrics in the order of the data set: all photos if the metrics are cross-validated."""
        is_tested = self.split_codes == SPLIT_CODES[Split.TEST]
        return self.dataset.examples.take(is_tested | self.evaluation.cross_validated)

    @cached_property
    def label_changes(self) -> LabelChanges:
        """Photos with another label than in the channel's current version."""
        return find_label_changes(self.previous.model_id, self.previous.examples, self.dataset.examples)

    @property
    def learnt(self) -> LearntPhotos:
        """Photos that any weight of the head learnt from."""
        return learnt_photos(self.splits, self.ancestors)

    def examples(self, split: Split) -> Photos:
        """Photos of a split ordered by sha256, so that the first few are a random sample."""
        chosen = self.dataset.examples.take(self.split_codes == SPLIT_CODES[split])
        return chosen.take(np.argsort(chosen.digests, kind="stable"))


def train_classifier(job: JobContext, dataset: Dataset) -> TrainedClassifier:
    """Extract features, assign splits, train the head, fine-tune if ``--fine-tune-from`` is given, and evaluate.

    Raises:
        InputError: too many photos are rejected, a class or split has none left, or the weights do not fit.
        StoppedError: the job was stopped; the same command resumes from the saved state.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)  # keeps GPU and CPU predictions within 1e-4
    options = job.options
    recipe, limits = recipe_from_options(options), ResourceLimits(options.memory_limit)
    limit_decoding(options.memory_limit)
    with job.phases("data"):
        shares = options.split.adjust_for(dataset.examples)
        previous = read_previous_version(job.registry, options.channel, shares)
        if not options.classes:
            dataset = replace(dataset, labels=previous.ordered_labels(dataset.labels))
    with job.phases("features"):
        head, program = _new_head(job, dataset, recipe, limits)
        conversions = ConversionStore(open_store(options.feature_store), job.report.warning)
        backbone = FrozenBackbone(options, conversions)
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        data = prepare_data(job, backbone, dataset, shares, previous, Path(folder))
        check_options(options, data)
        obstacle = warm_start_obstacle(job, data, previous)
        source = previous if options.warm_start and not obstacle else PreviousVersion()
        if backbone.cut is None:
            export = _start_export(job, data, backbone.files, head, is_frozen=True)
        checkpoint = partial(_checkpoint, job, _fingerprint(backbone, data, source, options))
        with job.phases("head"):
            program.wait()  # for its end restores the head's weights, and would undo a warm start
            if options.warm_start and not obstacle:
                job.report.line(warm_start(head, data.dataset.labels, backbone.sha256, source.manifest, job.registry))
            history = _train_head(job, head, data, recipe, limits, program, checkpoint("head"))
        head_weights, backbone_entry = head_arrays(head), backbone.manifest_entry()
        top, output = head, _POOLED
        if backbone.cut is not None:
            with job.phases("fine-tune"):
                top, epochs = _fine_tune(job, backbone, head, data, checkpoint("fine-tune"))
            output = _AT_CUT
            history = [*history, *(replace(epoch, epoch=len(history) + epoch.epoch) for epoch in epochs)]
            backbone_entry |= {"fine_tuned_from": backbone.cut.first} if epochs else {}
            files = backbone.fine_tuned_files() if epochs else backbone.files
            export = _start_export(job, data, files, head, is_frozen=not epochs)
        with job.phases("evaluate"):
            evaluated = evaluate_classifier(job, data, top, head, output)
            label_issues = data.label_issues(options.seed)
    classifier = Classifier(data.dataset.labels, backbone.spec, lambda: backbone.feature_model, head)
    return TrainedClassifier(
        classifier=classifier,
        dataset=data.dataset,
        shares=shares,
        splits=data.splits,
        evaluated=evaluated,
        label_issues=label_issues,
        history=history,
        backbone=backbone_entry,
        head_weights=head_weights,
        extraction_counts=data.extraction_counts,
        check=data.check,
        near_duplicates=data.near_duplicates,
        new_uris=data.new_uris,
        previous=previous,
        export=export,
        ancestors=source.learnt or LearntPhotos(),
        warnings=(*([obstacle] if obstacle else []), *evaluated.warnings),
    )


def _new_head(job: JobContext, dataset: Dataset, recipe: Recipe, limits: ResourceLimits) -> tuple[Any, PreparedProgram]:
    """Build the head and start compiling its training loop on a thread while features are extracted.

    If there is a saved state, which may be that of a finished training, the loop is compiled on demand.
    """
    keras.utils.set_random_seed(job.options.seed)
    head = head_model(BACKBONES[job.options.backbone].width, job.options.hidden_units, len(dataset.labels))
    max_rows = len(dataset.examples) * len(view_names(job.options.augment, job.options.views))
    return head, PreparedProgram(head, max_rows, recipe, limits, start=not _checkpoint(job, "", "head").exists())


def _start_export(
    job: JobContext, data: PreparedData, files: BackboneFiles, head: Any, is_frozen: bool
) -> Future[PreparedExport]:
    """Start the part of the export that does not depend on the head's weights, while the head trains."""
    inputs = (job.options, data.dataset, data.splits, files, head, is_frozen)
    return ExportPreparation(*inputs, job.report, job.stop).start()


def _fingerprint(backbone: FrozenBackbone, data: PreparedData, source: PreviousVersion, options: TrainOptions) -> str:
    """Hash what the trained weights depend on; ``source`` is the version of the warm start, empty for a cold start."""
    warm_start_id = source.manifest.model_id if source.manifest else None
    photos = (data.dataset.examples.digests, data.class_indices, data.split_codes)
    spaces = [space.id for spaces in backbone.feature_request.spaces.values() for space in spaces]
    return training_fingerprint(options, data.dataset.labels, photos, spaces, warm_start_id)


def _checkpoint(job: JobContext, fingerprint: str, stage: str) -> Checkpoint:
    return Checkpoint(job.registry.store, f"checkpoints/{job.options.channel}.{stage}.npz", fingerprint)


def remove_checkpoints(job: JobContext) -> None:
    """Remove the saved states of a job that has finished."""
    for stage in ("head", "fine-tune"):
        _checkpoint(job, "", stage).remove()


def _train_head(
    job: JobContext,
    head: Any,
    data: PreparedData,
    recipe: Recipe,
    limits: ResourceLimits,
    program: PreparedProgram,
    checkpoint: Checkpoint,
) -> list[Epoch]:
    train, validation = data.row_set(Split.TRAIN), data.row_set(Split.VALIDATION)
    with job.report.progress("epochs", recipe.epochs) as advance:
        fitted = fit_head(
            head,
            train,
            validation,
            recipe,
            lambda epoch: advance(epoch.summary()),
            limits=limits,
            prepared=program,
            checkpoint=checkpoint,
            stop=job.stop,
        )
    return fitted.history


def _fine_tune(
    job: JobContext, backbone: FrozenBackbone, head: Any, data: PreparedData, checkpoint: Checkpoint
) -> tuple[Any, list[Epoch]]:
    """Train the backbone above the cut together with the head.

    Returns the model from activations at the cut to probabilities, and the epochs. Without epochs the validation loss
    did not improve, and the frozen backbone is kept.
    """
    assert backbone.cut is not None
    validation = data.row_set(Split.VALIDATION, _AT_CUT)
    recipe = fine_tune_recipe_from_options(job.options, keep_best=bool(len(validation)))
    with job.report.progress("fine-tune", recipe.epochs) as advance:
        top, fitted = fine_tune(
            backbone.keras_model,
            backbone.cut,
            head,
            data.row_set(Split.TRAIN, _AT_CUT),
            validation,
            recipe,
            lambda epoch: advance(epoch.summary()),
            limits=ResourceLimits(job.options.memory_limit, ROWS_PER_CALL, compiled=bool(backbone.gpus)),
            checkpoint=checkpoint,
            stop=job.stop,
        )
    if fitted is None:
        job.report.line("fine-tuning did not improve the validation loss; keeping the frozen backbone")
    return top, [] if fitted is None else fitted.history
