import hashlib
from pathlib import Path

import pytest

from tests.train_job.quality.test_near_duplicates import half, saved, scene
from train_job.data.example import Example, Split
from train_job.data.photo_facts import PhotoFacts, decode_with_facts
from train_job.data.split_table import SplitTable
from train_job.quality.duplicates import deduplicate, near_duplicates
from train_job.store.facts_index import FactsIndex
from transferlite.images.input_spec import InputSpec

CAT = Example("cat.jpg", "cat", 2, "a" * 64)
DOG = Example("dog.jpg", "dog", 3, "b" * 64)


def copy_of_cat(name: str, row: int, label: str = "cat", split: Split | None = None) -> Example:
    """Make a copy of CAT."""
    return Example(name, label, row, CAT.sha256, split)


def test_photos_that_are_all_different_are_all_used() -> None:
    unique = deduplicate([CAT, DOG])
    assert (list(unique.examples), unique.rejected, unique.notes) == ([CAT, DOG], (), ())


def test_of_equal_photos_the_first_is_used_and_the_others_name_it() -> None:
    unique = deduplicate([CAT, copy_of_cat("copy.jpg", 7), DOG, copy_of_cat("third.jpg", 9)])
    assert unique.examples == (CAT, DOG)
    assert [(photo.uri, photo.row, photo.code) for photo in unique.rejected] == [
        ("copy.jpg", 7, "duplicate"),
        ("third.jpg", 9, "duplicate"),
    ]
    assert all("cat.jpg (row 2)" in photo.reason for photo in unique.rejected)


def test_of_a_photo_with_two_labels_no_copy_is_used() -> None:
    unique = deduplicate([CAT, copy_of_cat("copy.jpg", 7, "dog"), copy_of_cat("third.jpg", 9), DOG])
    assert unique.examples == (DOG,)
    assert {(photo.uri, photo.row) for photo in unique.rejected} == {("cat.jpg", 2), ("copy.jpg", 7), ("third.jpg", 9)}
    assert {photo.code for photo in unique.rejected} == {"conflicting-labels"}
    assert "'cat' here and 'dog' as copy.jpg (row 7)" in unique.rejected[0].reason


@pytest.mark.parametrize(
    ("first", "second", "used", "leaks"),
    [
        (None, Split.TEST, Split.TEST, True),
        (Split.TRAIN, Split.TEST, Split.TEST, True),
        (Split.VALIDATION, Split.TRAIN, Split.VALIDATION, True),
        (None, Split.TRAIN, Split.TRAIN, False),
        (Split.TEST, Split.TEST, Split.TEST, False),
    ],
)
def test_of_copies_in_two_user_splits_the_held_out_one_is_used_and_leakage_noted(
    first: Split | None, second: Split, used: Split, leaks: bool
) -> None:
    unique = deduplicate([copy_of_cat("first.jpg", 2, split=first), copy_of_cat("second.jpg", 3, split=second)])
    assert [example.split for example in unique.examples] == [used]
    assert [note.code for note in unique.notes] == ["leakage"] * leaks
    assert [photo.code for photo in unique.rejected] == ["duplicate"]


def test_a_file_in_both_training_and_test_is_a_test_photo() -> None:
    unique = deduplicate([CAT, copy_of_cat("cat.jpg", 2, split=Split.TEST)])
    assert [example.split for example in unique.examples] == [Split.TEST]
    assert len(unique.rejected) == 1


# -- near-duplicates -------------------------------------------------------------------------------------------------


def example_with_facts(name: str, data: bytes, label: str = "cat") -> tuple[Example, PhotoFacts]:
    sha256 = hashlib.sha256(data).hexdigest()
    return Example(name, label, sha256=sha256), decode_with_facts(data, InputSpec(64, 64))[1]


@pytest.fixture
def photos() -> list[tuple[Example, PhotoFacts]]:
    """Eight scenes, and a smaller copy of the first two."""
    scenes = [example_with_facts(f"{number}.jpg", saved(scene(number))) for number in range(8)]
    return [*scenes, *(example_with_facts(f"small-{number}.jpg", half(scene(number))) for number in range(2))]


def test_near_duplicates_are_named_by_their_content(photos: list[tuple[Example, PhotoFacts]]) -> None:
    examples = [example for example, _ in photos]
    facts = FactsIndex.of({example.sha256: known for example, known in photos})
    duplicates = near_duplicates(examples, facts, SplitTable())
    name = {example.sha256: Path(example.image).stem for example in examples}
    assert {frozenset(name[sha256] for sha256 in group) for group in duplicates.groups} == {
        frozenset({"0", "small-0"}),
        frozenset({"1", "small-1"}),
    }
    assert near_duplicates(examples[::-1], facts, SplitTable()) == duplicates


def test_old_photos_come_first_in_their_group(photos: list[tuple[Example, PhotoFacts]]) -> None:
    examples = [example for example, _ in photos]
    facts = FactsIndex.of({example.sha256: known for example, known in photos})
    for old in (examples[0], examples[8]):
        (group,) = (
            group
            for group in near_duplicates(examples, facts, SplitTable.of({old.sha256: Split.TRAIN})).groups
            if old.sha256 in group
        )
        assert group[0] == old.sha256


def test_photos_without_known_facts_have_no_near_duplicates(photos: list[tuple[Example, PhotoFacts]]) -> None:
    assert near_duplicates([example for example, _ in photos], FactsIndex.of({}), SplitTable()).groups == ()
