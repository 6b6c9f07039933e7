from typing import Any

import pytest

from tests.train_job.quality.test_near_duplicates import half, saved, scene
from train_job.data.example import Split
from train_job.data.photo_facts import PhotoFacts, decode_with_facts
from train_job.quality.learnt_photos import learnt_held_out, learnt_photos, unfair_tests
from transferlite.images.input_spec import InputSpec

TRAIN, VALIDATION, TEST = Split


@pytest.fixture(scope="module")
def facts() -> dict[str, PhotoFacts]:
    """Facts of two scenes and of a smaller copy of the first."""
    photos = {"original": saved(scene(1)), "copy": half(scene(1)), "other": saved(scene(2))}
    return {name: decode_with_facts(data, InputSpec(224, 224))[1] for name, data in photos.items()}


def test_a_version_learnt_its_training_and_validation_photos_and_those_of_its_ancestors() -> None:
    splits = {"a": TRAIN, "b": VALIDATION, "c": TEST, "d": VALIDATION}
    assert learnt_photos(splits, {"e": TRAIN, "f": VALIDATION, "d": TRAIN, "a": VALIDATION}) == {
        **{"a": TRAIN, "b": VALIDATION, "d": TRAIN},
        **{"e": TRAIN, "f": VALIDATION},
    }


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
    assert learnt_held_out({"photo": now, "other": TEST}, {"photo": before}, {}) == ["photo"] * found


def test_a_near_duplicate_of_a_learnt_photo_that_left_the_data_is_found(facts: dict[str, PhotoFacts]) -> None:
    assert learnt_held_out({"copy": TEST, "other": TEST}, {"original": TRAIN}, facts) == ["copy"]
    assert learnt_held_out({"copy": VALIDATION}, {"original": TRAIN}, facts) == ["copy"]
    assert learnt_held_out({"copy": VALIDATION}, {"original": VALIDATION}, facts) == []
    assert learnt_held_out({"copy": TEST, "original": TRAIN}, {"original": TRAIN}, facts) == []


def test_near_duplicates_need_known_facts(facts: dict[str, PhotoFacts]) -> None:
    assert learnt_held_out({"copy": TEST}, {"original": TRAIN}, {"copy": facts["copy"]}) == []


def test_a_near_duplicate_that_one_of_two_versions_learnt_is_unfair(facts: dict[str, PhotoFacts]) -> None:
    assert unfair_tests({"copy", "other"}, {"original": TRAIN}, {}, facts) == {"copy"}
    assert unfair_tests({"copy", "other"}, {}, {"original": VALIDATION, "other": TRAIN}, facts) == {"copy", "other"}
    assert unfair_tests({"copy", "other"}, {"original": TRAIN}, {"original": TRAIN}, facts) == set()
