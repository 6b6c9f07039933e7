from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from train_job.data.dataset import Dataset, Example, Split


def compared(counts: dict[str, tuple[int, int, int, int]], gone: tuple[str, ...] = (), tolerance: float = 0.05) -> Any:
    """A comparison; for each label: photos both get right, the champion alone, the challenger alone, neither."""
    from train_job.pipeline.promotion import tally

    labels: list[str] = []
    right: list[tuple[bool, bool]] = []
    for label, (both, champion, challenger, neither) in counts.items():
        labels += [label] * (both + champion + challenger + neither)
        right += [(True, True)] * both + [(True, False)] * champion
        right += [(False, True)] * challenger + [(False, False)] * neither
    return tally("m1", labels, np.array(right, bool).reshape(-1, 2).T, gone, tolerance)


def test_counts_and_the_p_value_are_those_computed_by_hand() -> None:
    found = compared({"cat": (80, 8, 1, 11), "dog": (90, 2, 1, 7)})
    assert [found.total(name) for name in ("photos", "only_champion", "only_challenger")] == [200, 10, 2]
    assert found.classes["cat"] == {
        "photos": 100,
        "champion": 88,
        "challenger": 81,
        "only_champion": 8,
        "only_challenger": 1,
    }
    assert found.p_value == pytest.approx(79 / 4096)  # of 12 coins at least 10 heads
    assert found.to_dict()["both_right"] == 170


def test_as_good_a_version_is_not_refused() -> None:
    assert compared({"cat": (90, 3, 3, 4), "dog": (95, 0, 5, 0)}).reasons() == []
    assert compared({}).reasons() == []


def test_a_class_that_lost_more_than_the_tolerance_is_named_with_its_counts() -> None:
    reasons = compared({"cat": (90, 6, 0, 4), "dog": (80, 0, 20, 0)}).reasons()
    assert reasons == ["'cat': 90 of 100 test photos right where m1 has 96"]
    assert compared({"cat": (90, 5, 0, 5), "dog": (80, 0, 20, 0)}).reasons() == []
    assert compared({"cat": (90, 5, 0, 5), "dog": (80, 0, 20, 0)}, tolerance=0.01).reasons()


@pytest.mark.parametrize(
    ("lost", "won", "refused"), [(1, 0, False), (2, 0, True), (3, 1, False), (4, 1, True), (8, 5, False)]
)
def test_what_one_chance_in_four_takes_from_a_class_may_be_lost(lost: int, won: int, refused: bool) -> None:
    assert bool(compared({"cat": (20, lost, won, 0), "dog": (80, 0, 20, 0)}).reasons()) is refused


def test_a_little_lost_in_every_class_is_significant_together() -> None:
    reasons = compared(dict.fromkeys("abc", (96, 4, 0, 0))).reasons()
    assert len(reasons) == 4
    assert reasons[0].startswith("'a': 96 of 100")
    assert reasons[-1].startswith("significantly worse: 12 photos are right no more, 0 are now (McNemar p = 0.00024)")


def test_a_class_that_is_gone_is_a_reason() -> None:
    assert compared({"cat": (10, 0, 0, 0)}, gone=("owl",)).reasons() == [
        "'owl' is a class of m1 and of this version not"
    ]


def learned(examples: Iterable[Example]) -> Any:
    """As much of what was learned as the choice of photos looks at."""
    from types import SimpleNamespace

    from train_job.pipeline.train_classifier import TrainedClassifier

    there = tuple(examples)
    found = SimpleNamespace(
        dataset=Dataset(there, ("cat", "dog")),
        splits={one.sha256: one.split for one in there},
        classifier=SimpleNamespace(labels=("cat", "dog")),
    )
    found.examples = lambda split: TrainedClassifier.examples(found, split)  # type: ignore[arg-type]
    return found


def example(sha256: str, split: Split, label: str = "cat") -> Example:
    return Example(f"/{sha256}.jpg", label, sha256=sha256, split=split)


def test_only_photos_that_neither_learnt_from_are_fair() -> None:
    from train_job.pipeline.promotion import fair_photos

    before = [
        example("frozen", Split.TEST),
        example("now-trained-on", Split.TEST),
        example("was-trained-on", Split.TRAIN),
        example("was-watched", Split.VALIDATION),
        example("another-class", Split.TEST, "owl"),
        example("relabelled", Split.TEST, "cat"),
    ]
    now = [
        example("now-trained-on", Split.TRAIN),
        example("was-trained-on", Split.TEST),
        example("was-watched", Split.TEST),
        example("new", Split.TEST),
        example("relabelled", Split.TEST, "dog"),
        example("learnt", Split.TRAIN, "dog"),
    ]
    found = fair_photos(learned(now), before, ("cat", "dog", "owl"))
    assert [(one.sha256, one.label) for one in found] == [("frozen", "cat"), ("new", "cat"), ("relabelled", "dog")]
    assert [one.sha256 for one in fair_photos(learned(now), before, ("dog", "owl"))] == ["relabelled"]
