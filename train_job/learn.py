"""From a data set to a trained classifier with its scores: the frozen base once a photo, then the head on rows."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from runtime.errors import AccessDeniedError, InputError
from runtime.imaging import InputSpec
from runtime.locations import open_store, split_uri
from runtime.registry import Registry
from train_job.backbones import BACKBONES, Backbone
from train_job.bases import build_base, weights_sha256
from train_job.dataset import Dataset, Example, Split, left_out
from train_job.evaluate import Scores, evaluate
from train_job.features import Features, extract
from train_job.head import Epoch, Recipe, fit_head, predict_rows
from train_job.loading import load_photos
from train_job.model import Classifier, feature_model, head_model
from train_job.options import TrainOptions
from train_job.progress import Phases, Reporter
from train_job.split import Shares, assign
from train_job.tables import splits_before


@dataclass(frozen=True)
class Learned:
    """A trained classifier, the photos behind it and how well it did.

    ``scores`` has a split's scores where the split has photos; ``backbone`` describes the base for the manifest.
    """

    classifier: Classifier
    dataset: Dataset
    shares: Shares
    splits: dict[str, Split]
    scores: dict[Split, Scores]
    history: list[Epoch]
    backbone: dict[str, Any]

    def examples(self, split: Split) -> list[Example]:
        """The photos of one split, in the order of their hash: any first few of them are an even sample."""
        chosen = [example for example in self.dataset.examples if self.splits[example.sha256] is split]
        return sorted(chosen, key=lambda example: (example.sha256, example.image))


def learn(
    options: TrainOptions,
    dataset: Dataset,
    registry: Registry,
    phases: Phases,
    report: Reporter,
) -> Learned:
    """Features, split, head, scores.

    Raises:
        InputError: too many photos cannot be used, a class or split has none left, or the weights do not fit.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU's answers must be a CPU's within 1e-4
    recipe = _recipe(options)
    shares = options.split.used_for(dataset.examples)
    with phases("data"):
        before = splits_before(registry, options.channel, shares)
    backbone = BACKBONES[options.backbone]
    size = options.image_size or backbone.size
    spec = InputSpec(size, size)
    with phases("features"):
        base = _base(backbone, spec, options)
        described = {"name": backbone.name, "weights": options.weights, "weights_sha256": weights_sha256(base)}
        model = feature_model(base, backbone, spec)
        features = _extract(model, dataset, spec, report)
    with phases("data"):
        _check_access(features)
        dataset = dataset.of_those(features.examples, features.rejects)
        dataset.check_share(options.fail_over)
        if features.rejects:
            report.warning(left_out(features.rejects))
        splits = assign(dataset.examples, shares, before)
        _check_splits(dataset, splits)
        _announce(dataset, splits, report)
    with phases("head"):
        head = head_model(features.rows.shape[1], options.hidden_units, len(dataset.labels))
        parts = _parts(dataset, features, splits)
        history = _fit(head, parts, recipe, report)
    with phases("evaluate"):
        scores = {split: evaluate(predict_rows(head, rows), labels) for split, (rows, labels) in parts.items()}
    test = scores[Split.TEST]
    report.line(f"test accuracy {test.accuracy:.4f}, log loss {test.log_loss:.4f} on {test.photos} photos")
    classifier = Classifier(dataset.labels, spec, model, head)
    return Learned(classifier, dataset, shares, splits, scores, history, described)


def _base(backbone: Backbone, spec: InputSpec, options: TrainOptions) -> Any:
    shape = (spec.height, spec.width, 3)
    if "://" not in options.weights:
        return build_base(backbone, shape, options.weights, options.seed)
    root, key = split_uri(options.weights)
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        path = Path(folder, Path(key).name)
        open_store(root).download(key, path)
        return build_base(backbone, shape, str(path), options.seed)


def _extract(model: Any, dataset: Dataset, spec: InputSpec, report: Reporter) -> Features:
    with report.counting("features", len(dataset.examples)) as advance:
        return extract(model, load_photos(dataset.examples, spec), advance)


def _check_access(features: Features) -> None:
    if not features.examples and all(reject.code == "forbidden" for reject in features.rejects):
        first = features.rejects[0]
        raise AccessDeniedError(
            "no photo may be read: " + first.reason, where=first.uri, hint="check the role's policy"
        )


def _check_splits(dataset: Dataset, splits: dict[str, Split]) -> None:
    counts = Counter((splits[example.sha256], example.label) for example in dataset.examples)
    for label in dataset.labels:
        if not counts[Split.TRAIN, label]:
            raise InputError(f"no photo of {label!r} is left to train on", hint="add photos or change --split")
    if Split.TEST not in splits.values():
        raise InputError("no photo is left to test on", hint="add photos, change --split or give --test-images")


def _announce(dataset: Dataset, splits: dict[str, Split], report: Reporter) -> None:
    counts = Counter(splits[example.sha256] for example in dataset.examples)
    report.line("split: " + ", ".join(f"{counts[split]} {split}" for split in Split))


def _parts(
    dataset: Dataset, features: Features, splits: dict[str, Split]
) -> dict[Split, tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Rows ``[n, D]`` and integer labels ``[n]`` of each split that has any photo."""
    index = {label: number for number, label in enumerate(dataset.labels)}
    labels = np.array([index[example.label] for example in dataset.examples], np.int32)
    where = np.array([splits[example.sha256].value for example in dataset.examples])
    return {
        split: (features.rows[where == split.value], labels[where == split.value])
        for split in Split
        if (where == split.value).any()
    }


def _recipe(options: TrainOptions) -> Recipe:
    return Recipe(
        options.epochs,
        options.steps_per_epoch,
        options.batch_size,
        options.optimizer,
        options.learning_rate,
        options.seed,
    )


def _fit(
    head: Any, parts: dict[Split, tuple[NDArray[np.float32], NDArray[np.int32]]], recipe: Recipe, report: Reporter
) -> list[Epoch]:
    rows, labels = parts[Split.TRAIN]
    validation = parts.get(Split.VALIDATION, (rows[:0], labels[:0]))
    with report.counting("epochs", recipe.epochs) as advance:
        return fit_head(head, rows, labels, validation, recipe, lambda epoch: advance(_in_words(epoch)))


def _in_words(epoch: Epoch) -> str:
    words = f"loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}"
    return (
        words
        if epoch.val_loss is None
        else f"{words}, val_loss {epoch.val_loss:.4f}, val_accuracy {epoch.val_accuracy:.4f}"
    )


def even_sample(examples: Sequence[Example], labels: Sequence[str], most: int) -> list[Example]:
    """Up to ``most`` of the examples, taken from the classes in turn, each class in the order given."""
    queues = [[example for example in examples if example.label == label] for label in labels]
    longest = max((len(queue) for queue in queues), default=0)
    in_turn = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return in_turn[:most]
