"""Photos that a head's weights learnt from, and held-out photos that would therefore be judged too kindly.

A head learns from its training photos, and its settings are chosen on its validation photos. A warm start passes both
on, through any number of versions. A near-duplicate of a learnt photo counts like the photo itself.
"""

import numpy as np

from train_job.data.example import Split
from train_job.data.split_table import SplitTable
from train_job.digests import Digests, digests_to_hex
from train_job.quality.duplicates import near_duplicates_of
from train_job.store.facts_index import FactsIndex

LearntPhotos = SplitTable
"""``TRAIN`` or ``VALIDATION`` by sha256: the strongest use that any weight of a head made of the photo."""


def learnt_photos(splits: SplitTable, ancestors: LearntPhotos) -> LearntPhotos:
    """Photos that a head with these splits learnt from, directly or through the ``ancestors`` of its warm start."""
    own = splits.only((Split.TRAIN, Split.VALIDATION))
    return ancestors.only((Split.TRAIN,)).or_else(own).or_else(ancestors)


def learnt_held_out(splits: SplitTable, learnt: LearntPhotos, facts: FactsIndex) -> list[str]:
    """Find the held-out photos that a head starting from ``learnt`` weights must not be evaluated on, sorted.

    They are test photos that were learnt, and validation photos that were trained on. A near-duplicate of a learnt
    photo counts if that photo is no longer in the data: between photos of the data, a cold start leaks as much.

    Args:
        splits: split by sha256 of the data.
        learnt: photos that the weights learnt from.
        facts: facts of the held-out photos and of the learnt ones, as far as they are known.
    """
    departed = learnt.without(splits.digests)
    found = []
    for held_out, uses in ((Split.TEST, (Split.TRAIN, Split.VALIDATION)), (Split.VALIDATION, (Split.TRAIN,))):
        photos = splits.only((held_out,)).digests
        found.append(photos[learnt.only(uses).lookup(photos) >= 0])
        found.append(near_duplicates_of(photos, departed.only(uses).digests, facts))
    return digests_to_hex(np.unique(np.concatenate(found)))


def unfair_tests(tests: Digests, first: LearntPhotos, second: LearntPhotos, facts: FactsIndex) -> Digests:
    """Find the test photos on which two heads must not be compared.

    Either head learnt the photo, or exactly one of them learnt a near-duplicate of it. If both learnt the same
    near-duplicate, neither has an advantage.
    """
    is_learnt = (first.lookup(tests) >= 0) | (second.lookup(tests) >= 0)
    one_sided = np.setxor1d(first.digests, second.digests, assume_unique=True)
    return np.concatenate([tests[is_learnt], near_duplicates_of(tests[~is_learnt], one_sided, facts)])
