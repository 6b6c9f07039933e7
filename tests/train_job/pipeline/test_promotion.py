import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from train_job.data.example import Example, Split
from train_job.data.photos import Photos
from train_job.data.split_table import SplitTable
from train_job.store.facts_index import FactsIndex


def compared(counts: dict[str, tuple[int, int, int, int]], gone: tuple[str, ...] = (), tolerance: float = 0.05) -> Any:
    """A comparison; for each label: photos both get right, the champion alone, the challenger alone, neither."""
    from train_job.evaluation.comparison import tally

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
    assert found.p_value == pytest.approx((13 + 66 / 2) / 4096)  # of 12 coins over 10 heads, and half of just 10
    assert found.to_dict()["both_right"] == 170


def test_as_good_a_version_is_not_refused() -> None:
    assert compared({"cat": (90, 3, 3, 4), "dog": (95, 0, 5, 0)}).reasons() == []
    assert compared({}).reasons() == []


def test_a_class_that_lost_more_than_the_tolerance_is_named_with_its_counts() -> None:
    reasons = compared({"cat": (88, 8, 1, 3), "dog": (80, 0, 3, 0)}).reasons()
    assert reasons == [
        "'cat': recall fell from 96.0% to 89.0%: of 100 test photos 8 got worse, 1 got better (p = 0.011)"
    ]
    assert compared({"cat": (91, 5, 0, 4), "dog": (80, 0, 3, 0)}).reasons() == []
    assert compared({"cat": (91, 5, 0, 4), "dog": (80, 0, 3, 0)}, tolerance=0.01).reasons()


@pytest.mark.parametrize(("lost", "won", "refused"), [(1, 0, False), (4, 0, False), (5, 0, True), (8, 4, False)])
def test_what_chance_takes_from_a_class_is_no_reason(lost: int, won: int, refused: bool) -> None:
    assert bool(compared({"cat": (20, lost, won, 0), "dog": (80, 0, 3, 0)}).reasons()) is refused


def test_a_little_lost_in_every_class_is_significant_together() -> None:
    reasons = compared(dict.fromkeys("abc", (96, 4, 0, 0)), tolerance=0.02).reasons()
    assert reasons == [
        "accuracy fell from 100.0% to 96.0%: of 300 test photos 12 got worse, 0 got better (p = 0.00012),"
        " most of them in 'a' (4), 'b' (4), 'c' (4)"
    ]


def test_a_little_lost_in_every_class_within_the_tolerance_is_tolerated() -> None:
    assert compared(dict.fromkeys("abc", (96, 4, 0, 0)), tolerance=0.05).reasons() == []


def test_a_class_that_is_gone_is_a_reason() -> None:
    assert compared({"cat": (10, 0, 0, 0)}, gone=("owl",)).reasons() == [
        "class 'owl' of m1 is missing from this version"
    ]


def test_enough_test_photos_need_no_note() -> None:
    assert compared({"cat": (46, 1, 1, 2), "dog": (50, 0, 0, 0)}).notes() == []


def test_too_few_test_photos_are_noted_and_no_reason() -> None:
    found = compared({"cat": (2, 1, 0, 0), "dog": (6, 0, 0, 0)})
    assert found.reasons() == []
    assert found.notes() == [
        "promotion check: 9 test photos are too few, it finds only drops in accuracy of 57% or more with 80%"
        " probability: add test photos",
        "promotion check: fewer than 5 test photos in 1 of 2 classes, which only the overall check covers: 'cat'",
        "promotion check: too few test photos in 1 of 2 classes to find a drop in recall of 50% with 80% probability:"
        " 'dog'",
    ]
    assert "it finds no drop in accuracy with 80% probability" in compared({"cat": (2, 1, 0, 0)}).notes()[0]


def test_a_comparison_without_photos_says_that_nothing_was_compared() -> None:
    notes = compared({}).notes()
    assert notes == ["promotion check: no test photo suits both m1 and this version, nothing was compared"]


def test_a_class_without_a_test_photo_is_counted() -> None:
    from train_job.evaluation.comparison import tally

    found = tally("m1", ["cat"] * 60, np.ones((2, 60), bool), (), 0.02, known=["cat", "owl"])
    assert found.classes["owl"]["photos"] == 0
    assert "1 of 2 classes, which only the overall check covers: 'owl'" in found.notes()[0]


def test_the_record_holds_the_decision_of_each_class() -> None:
    kept = compared({"cat": (88, 8, 1, 3), "owl": (3, 0, 0, 0)}).to_dict()
    assert kept["levels"] == {"overall": 0.04, "classes": 0.02}
    cat, owl = kept["classes"]["cat"], kept["classes"]["owl"]
    assert (cat["checked"], cat["worse"], cat["p_value"]) == (True, True, pytest.approx(5.5 / 512))
    assert (owl["checked"], owl["worse"], owl["detectable"]) == (False, False, None)
    assert json.loads(json.dumps(kept)) == kept


def sha256_of(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def example(name: str, split: Split, label: str = "cat") -> Example:
    return Example(name, label, sha256=sha256_of(name), split=split)


def learnt_from(*examples: Example, **ancestors: Split) -> SplitTable:
    from train_job.quality.learnt_photos import learnt_photos

    splits = {photo.sha256: photo.split for photo in examples if photo.split is not None}
    return learnt_photos(
        SplitTable.of(splits), SplitTable.of({sha256_of(name): split for name, split in ancestors.items()})
    )


BEFORE = (
    example("kept", Split.TEST),
    example("now-trained-on", Split.TEST),
    example("was-trained-on", Split.TRAIN),
    example("was-validation", Split.VALIDATION),
    example("another-class", Split.TEST, "owl"),
    example("relabelled", Split.TEST, "cat"),
)
NOW = (
    example("now-trained-on", Split.TRAIN),
    example("was-trained-on", Split.TEST),
    example("was-validation", Split.TEST),
    example("new", Split.TEST),
    example("relabelled", Split.TEST, "dog"),
    example("trained-on", Split.TRAIN, "dog"),
)
TESTS = Photos.of(photo for photo in NOW if photo.split is Split.TEST)


def fair(champion: SplitTable, challenger: SplitTable) -> list[tuple[str, str]]:
    from train_job.pipeline.promotion import fair_photos, shared_tests

    tests = shared_tests(TESTS, Photos.of(BEFORE), {"cat", "dog"})
    photos = fair_photos(tests, champion, challenger, FactsIndex.of({}))
    return sorted((photo.image, photo.label) for photo in photos)


def test_versions_are_compared_on_test_photos_of_either_that_neither_learnt() -> None:
    expected = [("kept", "cat"), ("new", "cat"), ("relabelled", "dog")]
    assert fair(learnt_from(*BEFORE), learnt_from(*NOW)) == expected


def test_a_photo_that_an_ancestor_of_either_learnt_is_not_compared() -> None:
    assert fair(learnt_from(*BEFORE, new=Split.TRAIN), learnt_from(*NOW)) == [
        ("kept", "cat"),
        ("relabelled", "dog"),
    ]
    assert fair(learnt_from(*BEFORE), learnt_from(*NOW, kept=Split.VALIDATION)) == [
        ("new", "cat"),
        ("relabelled", "dog"),
    ]


def test_a_label_that_only_one_version_knows_is_not_compared() -> None:
    from train_job.pipeline.promotion import shared_tests

    tests = shared_tests(TESTS, Photos.of(BEFORE), {"dog"})
    assert [photo.image for photo in tests] == ["relabelled"]
