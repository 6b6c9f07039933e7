"""Which score tells photos of unknown kinds from familiar ones: AUROC of each, on rows of EfficientNet-Lite0.

(a) A model of cats and dogs meets flowers. (b) A model of four kinds of flowers meets the fifth; mean over the five.
Heads are trained as in a training job. AUROC is the chance that a familiar test photo has the higher score.
Needs the photos of ``$TRANSFERLITE_TEST_DATA``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.feature_rows import Rows, cats_and_dogs, class_folders, test_data
from benchmarks.helpers.processes import print_table
from train_job.evaluation.fit_familiarity import fit_familiarity
from transferlite.predict.familiarity import Familiarity

REJECTED = 0.02
VALIDATION_SHARE = 0.12
_COMPONENTS = 128


@dataclass(frozen=True)
class Known:
    """What a model knows: its training and validation rows, the training labels, and its head."""

    train: Rows
    labels: NDArray[np.int64]
    validation: Rows
    logits: Callable[[Rows], Rows]

    def familiarity(self) -> Familiarity:
        """The score of the product, with its threshold."""
        probabilities = softmax(self.logits(self.validation))
        return fit_familiarity(
            self.train.astype(np.float16), self.validation.astype(np.float16), probabilities, REJECTED
        )


def softmax(logits: Rows) -> Rows:
    """Probabilities ``[N, C]``."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


# -- scores: higher for familiar photos ------------------------------------------------------------------------------


def maximum_softmax(known: Known, rows: Rows) -> Rows:
    """Hendrycks and Gimpel, ICLR 2017."""
    return np.asarray(softmax(known.logits(rows)).max(axis=1))


def energy(known: Known, rows: Rows) -> Rows:
    """Liu et al., NeurIPS 2020."""
    logits = known.logits(rows)
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def nearest_neighbour(known: Known, rows: Rows) -> Rows:
    """Sun et al., ICML 2022, with k = 1."""
    return np.asarray((unit(rows) @ unit(known.train).T).max(axis=1))


def mahalanobis(known: Known, rows: Rows) -> Rows:
    """Lee et al., NeurIPS 2018, on 128 principal components of rows of length 1."""
    return _mahalanobis(known, rows)[0]


def relative_mahalanobis(known: Known, rows: Rows) -> Rows:
    """Ren et al., 2021 (https://arxiv.org/abs/2106.09022)."""
    nearest_class, whole = _mahalanobis(known, rows)
    return nearest_class - whole


def _mahalanobis(known: Known, rows: Rows) -> tuple[Rows, Rows]:
    """Negative distances to the nearest class and to all training rows."""
    train = unit(known.train)
    centre = train.mean(axis=0)
    _, _, vectors = np.linalg.svd(train - centre, full_matrices=False)
    basis = vectors[:_COMPONENTS].T
    projected, new = (train - centre) @ basis, (unit(rows) - centre) @ basis
    classes = np.stack([projected[known.labels == label].mean(axis=0) for label in np.unique(known.labels)])
    within = projected - classes[known.labels]
    ridge = 0.1 * np.square(within).mean() * np.eye(basis.shape[1])
    precision = np.linalg.inv(within.T @ within / len(within) + ridge)
    whole = np.linalg.inv(projected.T @ projected / len(projected) + ridge)
    to_classes = [np.einsum("nd,de,ne->n", new - middle, precision, new - middle) for middle in classes]
    return -np.min(to_classes, axis=0), -np.einsum("nd,de,ne->n", new, whole, new)


def softmax_and_mahalanobis(known: Known, rows: Rows) -> Rows:
    """Sum of the standardised logarithm of the maximum softmax and relative Mahalanobis score."""
    parts = []
    for score in (lambda known, rows: np.log(maximum_softmax(known, rows)), relative_mahalanobis):
        usual = score(known, known.validation)
        parts.append((score(known, rows) - usual.mean()) / usual.std())
    return np.asarray(sum(parts))


def familiarity(known: Known, rows: Rows) -> Rows:
    """The score of the product: maximum softmax and nearest of 512 rows on 128 components."""
    return known.familiarity().scores(rows, softmax(known.logits(rows)))


SCORES: Mapping[str, Callable[[Known, Rows], Rows]] = {
    "maximum softmax": maximum_softmax,
    "energy": energy,
    "nearest neighbour": nearest_neighbour,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": relative_mahalanobis,
    "softmax + relative Mahalanobis": softmax_and_mahalanobis,
    "familiarity (in use): softmax + nearest": familiarity,
}


def auroc(familiar: Rows, unknown: Rows) -> float:
    """Chance that a familiar photo has a higher score than an unknown one; ties count half."""
    above = (familiar[:, None] > unknown[None]).mean()
    return float(above + 0.5 * (familiar[:, None] == unknown[None]).mean())


# -- models ----------------------------------------------------------------------------------------------------------


def train_model(rows: Rows, labels: NDArray[np.int64], seed: int = 0) -> Known:
    """Train a head as a training job does, on all rows but a share for validation."""
    import keras

    from train_job.evaluation.confidence_calibration import apply_temperature, fit_temperature
    from train_job.head.fit import fit_head, predict_probabilities
    from train_job.head.model import head_model
    from train_job.head.recipe import recipe_from_options
    from train_job.head.row_sets import RowSet
    from train_job.options import TrainOptions

    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = int(VALIDATION_SHARE * len(rows))
    table, classes = rows.astype(np.float16), labels.astype(np.int32)
    train, validation = (RowSet(table, ids, classes[ids]) for ids in (order[held_out:], order[:held_out]))
    head = head_model(rows.shape[1], 1024, int(labels.max()) + 1)
    fit_head(head, train, validation, recipe_from_options(TrainOptions(images="", registry="")), lambda _: None)
    apply_temperature(head, fit_temperature(predict_probabilities(head, validation), validation.labels))
    hidden, hidden_bias, last, last_bias = head.get_weights()

    def logits(new: Rows) -> Rows:
        return np.asarray(np.maximum(new @ hidden + hidden_bias, 0) @ last + last_bias, np.float32)

    return Known(rows[order[held_out:]], labels[order[held_out:]], rows[order[:held_out]], logits)


@dataclass(frozen=True)
class Case:
    """A model, its familiar test rows with their labels, and rows of unknown kinds."""

    known: Known
    familiar: Rows
    labels: NDArray[np.int64]
    unknown: Rows


def cases() -> tuple[Case, list[Case]]:
    """The case (a), and the five of (b)."""
    flowers, kinds, names = class_folders(test_data() / "flowers" / "train")
    test_flowers, test_kinds, _ = class_folders(test_data() / "flowers" / "test")
    rows, labels, test_rows, test_labels = cats_and_dogs()
    first = Case(train_model(rows, labels), test_rows, test_labels, test_flowers)
    second = []
    for left_out in range(len(names)):
        kept, kept_test = kinds != left_out, test_kinds != left_out
        renumbered = np.cumsum(np.arange(len(names)) != left_out) - 1
        model = train_model(flowers[kept], renumbered[kinds[kept]])
        labels = renumbered[test_kinds[kept_test]]
        second.append(Case(model, test_flowers[kept_test], labels, test_flowers[~kept_test]))
    return first, second


def threshold_row(name: str, case: Case) -> list[str]:
    """What the product's threshold rejects, and the accuracy of the photos that it accepts."""
    fitted = case.known.familiarity()
    probabilities, unknown = softmax(case.known.logits(case.familiar)), softmax(case.known.logits(case.unknown))
    accepted = fitted.scores(case.familiar, probabilities) >= fitted.threshold
    right = probabilities.argmax(axis=1) == case.labels
    rejected_unknown = fitted.scores(case.unknown, unknown) < fitted.threshold
    shares = (f"{(~accepted).mean():.1%}", f"{rejected_unknown.mean():.1%}")
    return [name, *shares, f"{right.mean():.3f}", f"{right[accepted].mean():.3f}"]


def milliseconds(case: Case) -> tuple[float, float]:
    """CPU milliseconds to parse the fitted score, and to score a photo."""
    data = case.known.familiarity().to_bytes()
    row, probabilities = case.familiar[0], np.full(2, 0.5, np.float32)
    fitted = Familiarity.from_bytes(data)
    return _median_ms(lambda: Familiarity.from_bytes(data)), _median_ms(lambda: fitted.score(row, probabilities))


def _median_ms(work: Callable[[], object], count: int = 50) -> float:
    seconds = []
    for _ in range(count):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return 1000 * float(np.median(seconds))


@click.command()
def main() -> None:
    """Print the AUROC of each score, and what the threshold of the product rejects."""
    first, second = cases()
    lines = []
    for name, score in SCORES.items():
        each = [auroc(score(case.known, case.familiar), score(case.known, case.unknown)) for case in (first, *second)]
        lines.append([name, f"{each[0]:.3f}", f"{mean(each[1:]):.3f}"])
    command = "python -m benchmarks.out_of_distribution"
    print_table(command, ("score, AUROC", "(a) cats and dogs against flowers", "(b) flowers, one kind left out"), lines)
    names = ["(a)", *(f"(b) {index + 1}" for index in range(len(second)))]
    rows = [threshold_row(name, case) for name, case in zip(names, (first, *second), strict=True)]
    header = ("--reject-unlike 2%", "familiar rejected", "unknown rejected", "accuracy", "accuracy of accepted")
    print_table(command, header, rows)
    load, score_time = milliseconds(first)
    click.echo(f"{load:.2f} ms to load, {score_time:.3f} ms a photo")


if __name__ == "__main__":
    main()
