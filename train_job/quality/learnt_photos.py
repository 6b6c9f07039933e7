"""Photos that a head's weights learnt from, and held-out photos that would therefore be judged too kindly.

A head learns from its training photos, and its settings are chosen on its validation photos. A warm start passes both
on, through any number of versions. A near-duplicate of a learnt photo counts like the photo itself.
"""

from collections.abc import Collection, Mapping

from train_job.data.example import Split
from train_job.data.photo_facts import PhotoFacts
from train_job.quality.duplicates import near_duplicates_of

LearntPhotos = Mapping[str, Split]
"""``TRAIN`` or ``VALIDATION`` by sha256: the strongest use that any weight of a head made of the photo."""


def learnt_photos(splits: Mapping[str, Split], ancestors: LearntPhotos) -> dict[str, Split]:
    """Photos that a head with these splits learnt from, directly or through the ``ancestors`` of its warm start."""
    own = {sha256: split for sha256, split in splits.items() if split is not Split.TEST}
    trained = {sha256: split for sha256, split in ancestors.items() if split is Split.TRAIN}
    return {**ancestors, **own, **trained}


def learnt_held_out(splits: Mapping[str, Split], learnt: LearntPhotos, facts: Mapping[str, PhotoFacts]) -> list[str]:
    """Find the held-out photos that a head starting from ``learnt`` weights must not be evaluated on, sorted.

    They are test photos that were learnt, and validation photos that were trained on. A near-duplicate of a learnt
    photo counts if that photo is no longer in the data: between photos of the data, a cold start leaks as much.

    Args:
        splits: split by sha256 of the data.
        learnt: photos that the weights learnt from.
        facts: facts by sha256 of the held-out photos and of the learnt ones, as far as they are known.
    """
    departed = {sha256: split for sha256, split in learnt.items() if sha256 not in splits}
    found: set[str] = set()
    for held_out, uses in ((Split.TEST, {Split.TRAIN, Split.VALIDATION}), (Split.VALIDATION, {Split.TRAIN})):
        photos = {sha256 for sha256, split in splits.items() if split is held_out}
        found |= {sha256 for sha256 in photos if learnt.get(sha256) in uses}
        found |= near_duplicates_of(photos, {sha256 for sha256, split in departed.items() if split in uses}, facts)
    return sorted(found)


def unfair_tests(
    tests: Collection[str], first: LearntPhotos, second: LearntPhotos, facts: Mapping[str, PhotoFacts]
) -> set[str]:
    """Find the test photos on which two heads must not be compared, by sha256.

    Either head learnt the photo, or exactly one of them learnt a near-duplicate of it. If both learnt the same
    near-duplicate, neither has an advantage.
    """
    learnt = {sha256 for sha256 in tests if sha256 in first or sha256 in second}
    return learnt | near_duplicates_of(set(tests) - learnt, first.keys() ^ second.keys(), facts)
