from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest

from tests.train_job.quality.test_near_duplicates import half, saved, scene
from train_job.data.example import Split
from train_job.data.photo_facts import decode_with_facts
from train_job.data.split_table import SplitTable
from train_job.digests import digests_from_hex, digests_to_hex
from train_job.quality.learnt_photos import learnt_held_out, learnt_photos, unfair_tests
from train_job.store.facts_index import FactsIndex
from transferlite.images.input_spec import InputSpec

TRAIN, VALIDATION, TEST = Split
HASH = {name: sha256(name.encode()).hexdigest() for name in [*"abcdef", "copy", "original", "other", "photo"]}


@pytest.fixture(scope="module")
def facts() -> FactsIndex:
    """Facts of two scenes and of a smaller copy of the first."""
    photos = {"original": saved(scene(1)), "copy": half(scene(1)), "other": saved(scene(2))}
    return FactsIndex.of({HASH[name]: decode_with_facts(data, InputSpec(224, 224))[1] for name, data in photos.items()})


def table(**splits: Split) -> SplitTable:
    return SplitTable.of({HASH[name]: split for name, split in splits.items()})


def names(hashes: Sequence[str]) -> list[str]:
    return [name for name in HASH if HASH[name] in hashes]


def test_a_version_learnt_its_training_and_validation_photos_and_those_of_its_ancestors() -> None:
    splits = table(a=TRAIN, b=VALIDATION, c=TEST, d=VALIDATION)
    assert learnt_photos(splits, table(e=TRAIN, f=VALIDATION, d=TRAIN, a=VALIDATION)) == table(
        a=TRAIN, b=VALIDATION, d=TRAIN, e=TRAIN, f=VALIDATION
    )


@pytest.mark.parametrize(
    ("now", "before", "found"),
    [
        (TEST, TRAIN, True),
        (TEST, VALIDATION, True),
        (VALIDATION, TRAIN, True),
        (VALIDATION, VALIDATION, False),
        (TRAIN, TRAIN, False),
        (TRAIN, VALIDATION, False),
    ],
)
def test_a_held_out_photo_that_was_used_more_strongly_before_is_found(now: Any, before: Any, found: bool) -> None:
    assert (
        names(learnt_held_out(table(photo=now, other=TEST), table(photo=before), FactsIndex.of({})))
        == ["photo"] * found
    )


def test_a_near_duplicate_of_a_learnt_photo_that_left_the_data_is_found(facts: FactsIndex) -> None:
    assert names(learnt_held_out(table(copy=TEST, other=TEST), table(original=TRAIN), facts)) == ["copy"]
    assert names(learnt_held_out(table(copy=VALIDATION), table(original=TRAIN), facts)) == ["copy"]
    assert names(learnt_held_out(table(copy=VALIDATION), table(original=VALIDATION), facts)) == []
    assert names(learnt_held_out(table(copy=TEST, original=TRAIN), table(original=TRAIN), facts)) == []


def test_near_duplicates_need_known_facts(facts: FactsIndex) -> None:
    (copy,) = facts.lookup([HASH["copy"]])
    assert copy is not None
    only_copy = FactsIndex.of({HASH["copy"]: copy})
    assert names(learnt_held_out(table(copy=TEST), table(original=TRAIN), only_copy)) == []


def test_a_near_duplicate_that_one_of_two_versions_learnt_is_unfair(facts: FactsIndex) -> None:
    tests = digests_from_hex([HASH["copy"], HASH["other"]])
    assert set(names(digests_to_hex(unfair_tests(tests, table(original=TRAIN), table(), facts)))) == {"copy"}
    assert set(names(digests_to_hex(unfair_tests(tests, table(), table(original=VALIDATION, other=TRAIN), facts)))) == {
        "copy",
        "other",
    }
    assert set(names(digests_to_hex(unfair_tests(tests, table(original=TRAIN), table(original=TRAIN), facts)))) == set()
