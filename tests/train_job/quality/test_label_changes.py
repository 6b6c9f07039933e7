from hashlib import sha256

import pytest

from train_job.data.example import Example
from train_job.quality.label_changes import LabelChanges, find_label_changes


def changes(before: dict[str, str], now: dict[str, str]) -> LabelChanges:
    """Compare two data sets, each as labels by content."""
    data = [
        [Example(f"{name}.jpg", label, sha256=sha256(name.encode()).hexdigest()) for name, label in data.items()]
        for data in (before, now)
    ]
    return find_label_changes("m1", *data)


def photos(**counts: int) -> dict[str, str]:
    """Photos of each label, named such as ``cat3``."""
    return {f"{label}{number}": label for label, count in counts.items() for number in range(count)}


BEFORE = photos(cat=40, dog=40, owl=80)
SWAPPED = BEFORE | {f"cat{n}": "dog" for n in range(40)} | {f"dog{n}": "cat" for n in range(40)}


def test_swapped_classes_are_named_with_their_counts_and_refused() -> None:
    found = changes(BEFORE, SWAPPED)
    assert found.summary() == (
        "80 of 160 photos (50%) have another label than in m1: 'cat' <-> 'dog' swapped? (40 + 40)"
    )
    (reason,) = found.reasons()
    assert reason == found.summary() + " (limit 20%); check the labels, or promote the version by hand"
    assert found.to_dict()["pairs"] == [
        {"from": "cat", "to": "dog", "photos": 40},
        {"from": "dog", "to": "cat", "photos": 40},
    ]


def test_a_class_swapped_in_a_large_data_set_is_refused_by_its_own_share() -> None:
    large = photos(cat=20, dog=20, owl=400)
    found = changes(large, large | {f"cat{n}": "dog" for n in range(12)})
    assert found.reasons() == [
        "12 of 20 photos of 'cat' have another label than in m1 (limit 50%): 'cat' -> 'dog' (12);"
        " check the labels, or promote the version by hand"
    ]


def test_a_few_fixed_labels_are_reported_and_no_reason() -> None:
    found = changes(BEFORE, BEFORE | {"cat0": "dog", "cat1": "dog", "dog0": "owl", "owl5": "cat"})
    assert found.summary() == (
        "4 of 160 photos (2%) have another label than in m1: 'cat' -> 'dog' (2), 'dog' -> 'owl' (1), 'owl' -> 'cat' (1)"
    )
    assert found.reasons() == []
    note = found.notes()[0]
    assert (note.uri, note.code, note.reason) == ("cat0.jpg", "relabelled", "is 'dog' and was 'cat' in m1")


@pytest.mark.parametrize(("count", "refused"), [(32, False), (33, True)])
def test_exactly_the_limit_is_allowed(count: int, refused: bool) -> None:
    assert bool(changes(BEFORE, BEFORE | {f"owl{n}": "cat" for n in range(count)}).reasons()) is refused


def test_labels_shifted_by_one_class_are_refused() -> None:
    shifted = {sha256: {"cat": "dog", "dog": "owl", "owl": "cat"}[label] for sha256, label in BEFORE.items()}
    (reason,) = changes(BEFORE, shifted).reasons()
    assert reason.startswith("160 of 160 photos (100%)")
    assert "swapped" not in reason


def test_new_and_removed_photos_do_not_count() -> None:
    found = changes(BEFORE, photos(cat=10, newt=90))
    assert (found.changed, found.summary(), found.reasons(), found.to_dict()["photos"]) == ((), "", [], 10)


def test_a_renamed_photo_is_compared_by_content() -> None:
    (before, now) = (Example("a.jpg", "cat", sha256="1" * 64), Example("b.jpg", "dog", sha256="1" * 64))
    assert find_label_changes("m1", [before], [now]).pairs == {("cat", "dog"): 1}


def test_four_photos_are_too_few_to_refuse() -> None:
    few = photos(cat=4, dog=4)
    assert changes(few, few | {f"cat{n}": "dog" for n in range(4)}).reasons() == []


def test_many_pairs_are_shortened() -> None:
    many = {f"{n}": f"class{n}" for n in range(20)}
    found = changes(many, {f"{n}": f"class{(n + 1) % 20}" for n in range(20)})
    assert found.summary().endswith(", …")
    assert found.summary().count("->") == 5
