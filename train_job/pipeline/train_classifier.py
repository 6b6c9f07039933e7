"""From a data set to a trained classifier with its scores: the frozen base once a photo, then the head on rows."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from train_job.backbones.catalog import BACKBONES
from train_job.data.augmentation import view_names
from train_job.data.dataset import Dataset, Example, Split
from train_job.data.split import Shares
from train_job.evaluation.cross_validation import cross_validate
from train_job.evaluation.evaluate import Evaluation, evaluate_head
from train_job.extraction.extract_features import ExtractionCounts
from train_job.extraction.frozen_backbone import FrozenBackbone
from train_job.head.checkpoint import Arrays, Checkpoint
from train_job.head.compiled_loop import PreparedProgram, ResourceLimits
from train_job.head.fine_tune import CHUNK_ROWS, MOMENTUM, fine_tune
from train_job.head.fit import fit_head
from train_job.head.model import Classifier, head_model
from train_job.head.recipe import Epoch, Recipe, recipe_of
from train_job.head.warm_start import head_arrays, warm_start
from train_job.options import TrainOptions
from train_job.pipeline.csv_records import PreviousVersion, read_previous_version
from train_job.pipeline.prepare_data import JobContext, PreparedData, prepare_data
from train_job.quality.duplicates import NearDuplicates
from train_job.quality.findings import CheckResult
from train_job.quality.label_issues import LabelIssue, find_label_issues
from transferlite.errors import InputError


@dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier, the photos behind it and how well it did.

    Attributes:
        classifier: the model, calibrated.
        dataset: the usable photos.
        shares: of the splits.
        splits: of each photo's sha256.
        evaluation: how good it is on each split.
        folds: what cross-validation said, where it was asked for.
        suspects: photos whose label looks wrong, the worst first; places are those of the data set's examples.
        history: of all epochs, those of the second stage after those of the head.
        backbone: the base for the manifest.
        head: the weights of the head on the frozen base, before calibration: where a later training may start.
        counts: what the features cost.
        checked: what there is to say of the photos.
        near: which of them look alike.
        new: the URIs of photos that no earlier training has fetched.
        earlier: the splits of all photos that earlier versions had.
    """

    classifier: Classifier
    dataset: Dataset
    shares: Shares
    splits: dict[str, Split]
    evaluation: Evaluation
    folds: Mapping[str, Any] | None
    suspects: list[LabelIssue]
    history: list[Epoch]
    backbone: dict[str, Any]
    head: Arrays
    counts: ExtractionCounts
    checked: CheckResult
    near: NearDuplicates
    new: frozenset[str]
    earlier: Mapping[str, Split]

    def examples(self, split: Split) -> list[Example]:
        """The photos of one split, in the order of their hash: any first few of them are an even sample."""
        chosen = [example for example in self.dataset.examples if self.splits[example.sha256] is split]
        return sorted(chosen, key=lambda example: (example.sha256, example.image))


def train_classifier(job: JobContext, dataset: Dataset) -> TrainedClassifier:
    """Features, split, head, the second stage if it is asked for, scores.

    Raises:
        InputError: too many photos cannot be used, a class or split has none left, or the weights do not fit.
        StoppedError: the job was told to stop; it goes on from there when it is run again.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU's answers must be a CPU's within 1e-4
    options = job.options
    recipe = recipe_of(options)
    with job.phases("data"):
        shares = options.split.used_for(dataset.examples)
        earlier = read_previous_version(job.registry, options.channel, shares)
        if not options.classes:
            dataset = replace(dataset, labels=earlier.order(dataset.labels))
    limits = ResourceLimits(options.memory_limit)
    with job.phases("features"):
        head, prepared = _begin(options, dataset, recipe, limits)
        base = FrozenBackbone(options)
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        divided = prepare_data(job, base, dataset, shares, earlier, Path(folder))
        _check_precision(options, divided)
        checkpoint = partial(_checkpoint, job, _fingerprint(base, divided, earlier, options))
        with job.phases("head"):
            prepared.program()  # which, as it is compiled, writes the head's weights back as it found them
            _warm_start(job, head, base, divided, earlier)
            history = _fit(job, head, divided, recipe, limits, prepared, checkpoint("head"))
        described = base.described()
        frozen_head, scored, output = head_arrays(head), head, 0
        if base.cut is not None:
            with job.phases("fine-tune"):
                scored, epochs = _fine_tune(job, base, head, divided, checkpoint("fine-tune"))
            output = 1
            history = [*history, *(replace(epoch, epoch=len(history) + epoch.epoch) for epoch in epochs)]
            described |= {"fine_tuned_from": base.cut.first} if epochs else {}
        with job.phases("evaluate"):
            rows = {split: divided.photos(split, output) for split in Split}
            evaluation = evaluate_head(scored, head, rows, divided.dataset.labels, options.precision)
            folds = _cross_validate(job, divided, recipe, limits) if options.folds else None
            suspects = _doubted(divided, options.seed)
    _announce(evaluation, job)
    with job.phases("export"):
        classifier = Classifier(divided.dataset.labels, base.spec, base.features, head)
    return TrainedClassifier(
        classifier=classifier,
        dataset=divided.dataset,
        shares=shares,
        splits=divided.splits,
        evaluation=evaluation,
        folds=folds,
        suspects=suspects,
        history=history,
        backbone=described,
        head=frozen_head,
        counts=divided.counts,
        checked=divided.checked,
        near=divided.near,
        new=divided.new,
        earlier=earlier.splits,
    )


def _begin(
    options: TrainOptions, dataset: Dataset, recipe: Recipe, limits: ResourceLimits
) -> tuple[Any, PreparedProgram]:
    """A new head, and its program, which is compiled from now on."""
    keras.utils.set_random_seed(options.seed)
    head = head_model(BACKBONES[options.backbone].width, options.hidden_units, len(dataset.labels))
    most_rows = len(dataset.examples) * len(view_names(options.augment, options.views))
    return head, PreparedProgram(head, most_rows, recipe, limits)


def _check_precision(options: TrainOptions, divided: PreparedData) -> None:
    if options.precision is not None and not divided.of(Split.VALIDATION):
        raise InputError("--precision needs validation photos", hint="give them a share: --split 80/10/10")


def _announce(evaluation: Evaluation, job: JobContext) -> None:
    test = evaluation.scores[Split.TEST]
    job.report.line(f"test accuracy {test.accuracy:.4f}, log loss {test.log_loss:.4f} on {test.photos} photos")
    if Split.VALIDATION in evaluation.scores:
        error = evaluation.errors[Split.TEST.value]
        job.report.line(
            f"calibrated with temperature {evaluation.temperature:.2f}: calibration error {error['before']:.3f} ->"
            f" {error['after']:.3f} on the test photos"
        )
    chosen = evaluation.chosen
    if chosen is not None and chosen["threshold"] is not None:
        kept = chosen["test"]
        job.report.line(
            f"below {chosen['threshold']:.3f} the answer is unknown: {kept['answered']} of {kept['photos']} test photos"
            f" are answered, {kept['right']} rightly"
        )


def _doubted(divided: PreparedData, seed: int) -> list[LabelIssue]:
    photos = divided.all_photos()
    return find_label_issues(photos.table[: len(photos)], photos.labels, seed, divided.groups())


def _cross_validate(
    job: JobContext, divided: PreparedData, recipe: Recipe, limits: ResourceLimits
) -> Mapping[str, Any] | None:
    options = job.options
    with job.report.counting("folds", recipe.epochs * options.folds) as advance:
        found = cross_validate(
            divided.all_photos(),
            divided.groups(),
            len(divided.dataset.labels),
            recipe,
            options.hidden_units,
            options.folds,
            limits,
            advance,
            job.stop,
        )
    if found is None:
        job.report.warning("no cross-validation: a class has fewer than two photos")
    else:
        low, high = found["interval"]
        job.report.line(
            f"{found['count']} folds: accuracy {found['mean']:.4f} on average, 95 % interval {low:.3f} to {high:.3f}"
        )
    return found


def _fingerprint(base: FrozenBackbone, divided: PreparedData, earlier: PreviousVersion, options: TrainOptions) -> str:
    """What a saved state has to agree with for the training to go on from it: all that the result depends on."""
    started = earlier.manifest.model_id if options.warm_start and earlier.manifest else None
    photos = [(one.sha256, one.label, divided.splits[one.sha256].value) for one in divided.dataset.examples]
    spaces = [space.id for spaces in base.wanted.spaces.values() for space in spaces]
    facts = [options.to_dict(), divided.dataset.labels, photos, spaces, started, tf.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _checkpoint(job: JobContext, fingerprint: str, stage: str) -> Checkpoint:
    return Checkpoint(job.registry.store, f"checkpoints/{job.options.channel}.{stage}.npz", fingerprint)


def forget_checkpoints(job: JobContext) -> None:
    """The job is done: remove the states of its stages."""
    for stage in ("head", "fine-tune"):
        _checkpoint(job, "", stage).remove()


def _warm_start(
    job: JobContext, head: Any, base: FrozenBackbone, divided: PreparedData, earlier: PreviousVersion
) -> None:
    if job.options.warm_start:
        job.report.line(warm_start(head, divided.dataset.labels, base.sha256, earlier.manifest, job.registry))


def _fit(
    job: JobContext,
    head: Any,
    divided: PreparedData,
    recipe: Recipe,
    limits: ResourceLimits,
    prepared: PreparedProgram,
    checkpoint: Checkpoint,
) -> list[Epoch]:
    train, validation = divided.rows(Split.TRAIN), divided.rows(Split.VALIDATION)
    with job.report.counting("epochs", recipe.epochs) as advance:
        fitted = fit_head(
            head,
            train,
            validation,
            recipe,
            lambda epoch: advance(_in_words(epoch)),
            limits=limits,
            prepared=prepared,
            checkpoint=checkpoint,
            stop=job.stop,
        )
    return fitted.history


def _fine_tune(
    job: JobContext, base: FrozenBackbone, head: Any, divided: PreparedData, checkpoint: Checkpoint
) -> tuple[Any, list[Epoch]]:
    options, validation = job.options, divided.rows(Split.VALIDATION, 1)
    assert base.cut is not None
    recipe = Recipe(
        epochs=options.fine_tune_epochs,
        batch_size=options.batch_size,
        optimizer="sgd",
        momentum=MOMENTUM,
        learning_rate=options.fine_tune_learning_rate,
        keep_best=bool(len(validation)),
        seed=options.seed,
    )
    with job.report.counting("fine-tune", recipe.epochs) as advance:
        top, fitted = fine_tune(
            base.keras,
            base.cut,
            head,
            divided.rows(Split.TRAIN, 1),
            validation,
            recipe,
            lambda epoch: advance(_in_words(epoch)),
            limits=ResourceLimits(options.memory_limit, CHUNK_ROWS, compiled=bool(base.gpus)),
            checkpoint=checkpoint,
            stop=job.stop,
        )
    if fitted is None:
        job.report.line("fine-tuning made the validation loss no better: the frozen base is kept")
    return top, [] if fitted is None else fitted.history


def _in_words(epoch: Epoch) -> str:
    words = f"loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}"
    if epoch.val_loss is None:
        return words
    return f"{words}, val_loss {epoch.val_loss:.4f}, val_accuracy {epoch.val_accuracy:.4f}"
