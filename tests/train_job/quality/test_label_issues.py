from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train_job.quality import label_issues
from train_job.quality.label_issues import find_label_issues
from transferlite.storage.store import MemoryStore

Rows = np.ndarray[tuple[int, ...], np.dtype[np.float16]]
Labels = np.ndarray[tuple[int, ...], np.dtype[np.int32]]


def clusters(count: int = 300, classes: int = 3, seed: int = 0) -> tuple[Rows, Labels]:
    """Make feature rows around one centre per class, as a backbone does for classes that it distinguishes."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.int32)
    rows = random.normal(size=(classes, 64))[labels] + 0.3 * random.normal(size=(count, 64))
    return rows.astype(np.float16), labels


def mislabelled(labels: Labels, share: float, seed: int) -> tuple[Labels, set[int]]:
    """The labels, a share of them changed at random, and the indices of the changed ones."""
    random = np.random.default_rng(seed)
    indices = random.choice(len(labels), round(share * len(labels)), replace=False)
    classes = int(labels.max()) + 1
    wrong = labels.copy()
    wrong[indices] = (wrong[indices] + random.integers(1, classes, len(indices))) % classes
    return wrong, set(indices.tolist())


def test_wrong_labels_among_clear_clusters_are_found_with_the_right_suggestion_worst_first() -> None:
    rows, labels = clusters()
    given, wrong = mislabelled(labels, 0.1, 1)
    issues = find_label_issues(rows, given)
    assert {issue.index for issue in issues} == wrong
    assert all(issue.suggested == labels[issue.index] and issue.given == given[issue.index] for issue in issues)
    assert [issue.score for issue in issues] == sorted(issue.score for issue in issues)


def test_clean_labels_raise_no_suspicion_and_the_same_seed_gives_the_same_answer() -> None:
    rows, labels = clusters()
    assert find_label_issues(rows, labels) == []
    given, _ = mislabelled(labels, 0.1, 2)
    assert find_label_issues(rows, given, seed=3) == find_label_issues(rows, given, seed=3)


def test_copies_of_a_mislabelled_photo_do_not_vouch_for_each_other() -> None:
    rows, labels = clusters(120)
    groups = np.arange(120)
    rows[1:30:3], groups[1:30:3] = rows[1], 1
    labels[1:30:3] = 2  # ten copies of one photo of class 1, all called class 2
    together = {issue.index for issue in find_label_issues(rows, labels, groups=groups)}
    assert together == set(range(1, 30, 3))
    assert not together & {issue.index for issue in find_label_issues(rows, labels)}


def test_a_class_with_fewer_photos_than_folds_is_neither_doubted_nor_suggested() -> None:
    rows, labels = clusters(200, 4)
    keep = np.flatnonzero((labels != 1) | (np.arange(200) < 16))  # four photos of class 1
    given, _ = mislabelled(labels[keep], 0.0, 0)
    given[0], truth = 2, given[0]
    issues = find_label_issues(rows[keep], given)
    assert [(issue.index, issue.given, issue.suggested) for issue in issues] == [(0, 2, truth)]


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [0, 1, 0, 1], [0] * 9 + [1]])
def test_too_little_to_judge_is_no_suspicion(labels: list[int]) -> None:
    assert find_label_issues(np.ones((len(labels), 8), np.float16), np.array(labels, np.int32)) == []


def test_more_rows_than_the_limit_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_issues, "MAX_ROWS", 150)
    rows, labels = clusters(450)
    given, wrong = mislabelled(labels, 0.1, 4)
    issues = {issue.index for issue in find_label_issues(rows, given)}
    assert issues <= wrong
    assert 5 <= len(issues) <= 25
    assert max(issues) > 300


@pytest.fixture(scope="module")
def flowers(photo_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Labels]:
    from train_job.data.augmentation import PLAIN
    from train_job.data.labels.read_labels import read_dataset
    from train_job.extraction.frozen_backbone import FrozenBackbone, extract_missing, gather_feature_rows
    from train_job.options import TrainOptions
    from train_job.progress import Reporter
    from train_job.store.feature_store import FeatureStore

    images = str(photo_sets / "flowers" / "train")
    backbone, store = FrozenBackbone(TrainOptions(images=images, registry="")), FeatureStore(MemoryStore())
    examples = extract_missing(backbone, read_dataset(images, None).examples, store, Reporter(), lambda: False).examples
    hashes = {PLAIN: [example.sha256 for example in examples]}
    (table,), _ = gather_feature_rows(backbone.feature_request, store, hashes, tmp_path_factory.mktemp("rows"))
    names = sorted({example.label for example in examples})
    labels: Any = np.array([names.index(example.label) for example in examples], np.int32)
    return table, labels


@pytest.mark.photos
def test_of_a_tenth_of_the_flowers_mislabelled_most_are_found(flowers: tuple[Rows, Labels]) -> None:
    rows, labels = flowers
    assert len(labels) == 750
    given, wrong = mislabelled(labels, 0.1, 0)
    issues = {issue.index for issue in find_label_issues(rows, given)}
    assert len(issues & wrong) >= 0.7 * len(wrong)
    assert len(issues & wrong) >= 0.5 * len(issues)
