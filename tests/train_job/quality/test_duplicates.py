import hashlib
from pathlib import Path

import pytest

from tests.train_job.quality.test_near_duplicates import half, saved, scene
from train_job.data.dataset import Example, Split
from train_job.data.photo_facts import PhotoFacts, examine
from train_job.quality.duplicates import deduplicate, near_duplicates
from transferlite.images.input_spec import InputSpec

CAT = Example("cat.jpg", "cat", 2, "a" * 64)
DOG = Example("dog.jpg", "dog", 3, "b" * 64)


def again(name: str, row: int, label: str = "cat", split: Split | None = None) -> Example:
    """A copy of CAT."""
    return Example(name, label, row, CAT.sha256, split)


def test_photos_that_are_all_different_are_all_used() -> None:
    once = deduplicate([CAT, DOG])
    assert (once.examples, once.rejects, once.notes) == ((CAT, DOG), (), ())


def test_of_equal_photos_the_first_is_used_and_the_others_name_it() -> None:
    once = deduplicate([CAT, again("copy.jpg", 7), DOG, again("third.jpg", 9)])
    assert once.examples == (CAT, DOG)
    assert [(one.uri, one.row, one.code) for one in once.rejects] == [
        ("copy.jpg", 7, "duplicate"),
        ("third.jpg", 9, "duplicate"),
    ]
    assert all("cat.jpg (row 2)" in one.reason for one in once.rejects)


def test_of_a_photo_with_two_labels_no_copy_is_used() -> None:
    once = deduplicate([CAT, again("copy.jpg", 7, "dog"), again("third.jpg", 9), DOG])
    assert once.examples == (DOG,)
    assert {(one.uri, one.row) for one in once.rejects} == {("cat.jpg", 2), ("copy.jpg", 7), ("third.jpg", 9)}
    assert {one.code for one in once.rejects} == {"conflicting-labels"}
    assert "'cat' here and 'dog' as copy.jpg (row 7)" in once.rejects[0].reason


@pytest.mark.parametrize(
    ("one", "other", "used", "leaks"),
    [
        (None, Split.TEST, Split.TEST, True),
        (Split.TRAIN, Split.TEST, Split.TEST, True),
        (Split.VALIDATION, Split.TRAIN, Split.VALIDATION, True),
        (None, Split.TRAIN, Split.TRAIN, False),
        (Split.TEST, Split.TEST, Split.TEST, False),
    ],
)
def test_a_copy_across_the_users_splits_is_used_where_it_judges_and_reported(
    one: Split | None, other: Split, used: Split, leaks: bool
) -> None:
    once = deduplicate([again("one.jpg", 2, split=one), again("other.jpg", 3, split=other)])
    assert [example.split for example in once.examples] == [used]
    assert [note.code for note in once.notes] == ["leakage"] * leaks
    assert [reject.code for reject in once.rejects] == ["duplicate"]


def test_the_same_file_given_for_training_and_for_testing_is_for_testing() -> None:
    once = deduplicate([CAT, again("cat.jpg", 2, split=Split.TEST)])
    assert [example.split for example in once.examples] == [Split.TEST]
    assert len(once.rejects) == 1


# -- near-duplicates -------------------------------------------------------------------------------------------------


def looked_at(name: str, data: bytes, label: str = "cat") -> tuple[Example, PhotoFacts]:
    sha256 = hashlib.sha256(data).hexdigest()
    return Example(name, label, sha256=sha256), examine(data, InputSpec(64, 64))[1]


@pytest.fixture
def photos() -> list[tuple[Example, PhotoFacts]]:
    """Eight scenes, and a smaller copy of the first two."""
    found = [looked_at(f"{number}.jpg", saved(scene(number))) for number in range(8)]
    return [*found, *(looked_at(f"small-{number}.jpg", half(scene(number))) for number in range(2))]


def test_near_duplicates_are_named_by_their_content(photos: list[tuple[Example, PhotoFacts]]) -> None:
    examples = [one for one, _ in photos]
    facts = {one.sha256: known for one, known in photos}
    near = near_duplicates(examples, facts, [])
    name = {one.sha256: Path(one.image).stem for one in examples}
    assert {frozenset(name[one] for one in group) for group in near.groups} == {
        frozenset({"0", "small-0"}),
        frozenset({"1", "small-1"}),
    }
    assert near_duplicates(examples[::-1], facts, []) == near


def test_old_photos_come_first_in_their_group(photos: list[tuple[Example, PhotoFacts]]) -> None:
    examples = [one for one, _ in photos]
    facts = {one.sha256: known for one, known in photos}
    for old in (examples[0], examples[8]):
        (group,) = (one for one in near_duplicates(examples, facts, [old.sha256]).groups if old.sha256 in one)
        assert group[0] == old.sha256


def test_photos_without_known_facts_are_near_to_none(photos: list[tuple[Example, PhotoFacts]]) -> None:
    assert near_duplicates([one for one, _ in photos], {}, []).groups == ()
