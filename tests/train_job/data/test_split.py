import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train_job.data.example import Example, Split
from train_job.data.split import SplitShares, assign_splits
from transferlite.errors import InputError

TRAIN, VALIDATION, TEST = Split
SHARES = SplitShares(80, 10, 10)
NOT_FINITE = ["nan/1/1", "80/nan/10", "inf/1/1"]


def photos(label: str, numbers: Iterable[int]) -> list[Example]:
    names = (f"{label}/{number}.jpg" for number in numbers)
    return [Example(name, label, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names]


def counts(examples: Iterable[Example], splits: Mapping[str, Split]) -> dict[str, Counter[Split]]:
    by_label: dict[str, Counter[Split]] = {}
    for example in examples:
        by_label.setdefault(example.label, Counter())[splits[example.sha256]] += 1
    return by_label


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("80/10/10", SplitShares(80, 10, 10)),
        ("8/1/1", SplitShares(8, 1, 1)),
        (" 0.7 / .2 / .1 ", SplitShares(0.7, 0.2, 0.1)),
        ("1/0/0", SplitShares(1, 0, 0)),
    ],
)
def test_shares_are_read(text: str, shares: SplitShares) -> None:
    assert SplitShares.parse(text) == shares
    assert SplitShares.parse(str(shares)) == shares


@pytest.mark.parametrize(
    "text",
    ["", "80", "80/20", "80/10/10/0", "a/b/c", "80-10-10", "-1/1/1", "80/-10/30", "0/50/50", *NOT_FINITE],
)
def test_invalid_shares_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="80/10/10"):
        SplitShares.parse(text)


@pytest.mark.parametrize(
    ("text", "count", "parts"),
    [
        ("80/10/10", 0, (0, 0, 0)),
        ("80/10/10", 1, (1, 0, 0)),
        ("80/10/10", 10, (8, 1, 1)),
        ("80/10/10", 12, (10, 1, 1)),
        ("80/10/10", 100, (80, 10, 10)),
        ("1/1/1", 5, (1, 2, 2)),
        ("1/0/0", 7, (7, 0, 0)),
        ("90/0/10", 8, (7, 0, 1)),
        ("0.7/0.2/0.1", 10, (7, 2, 1)),
    ],
)
def test_largest_remainders_get_what_is_left(text: str, count: int, parts: tuple[int, int, int]) -> None:
    assert tuple(SplitShares.parse(text).counts_of(count).values()) == parts


def test_parts_add_up_and_are_within_one_of_the_exact_share() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        weights = [chance.choice([0.0, chance.random(), chance.randint(1, 100)]) for _ in range(2)]
        shares, count = SplitShares(chance.uniform(0.01, 100), *weights), chance.randint(0, 500)
        parts = shares.counts_of(count)
        exact = {
            split: share * count / (shares.train + sum(weights))
            for split, share in zip(Split, (shares.train, *weights), strict=True)
        }
        assert sum(parts.values()) == count
        assert all(abs(parts[split] - exact[split]) < 1 + 1e-9 for split in Split)
        assert all(parts[split] == 0 for split in Split if exact[split] == 0)


def test_each_class_is_split_by_the_shares() -> None:
    examples = photos("cat", range(50)) + photos("dog", range(10)) + photos("rare", range(1))
    by_label = counts(examples, assign_splits(examples, SHARES, {}))
    assert by_label["cat"] == {TRAIN: 40, VALIDATION: 5, TEST: 5}
    assert by_label["dog"] == {TRAIN: 8, VALIDATION: 1, TEST: 1}
    assert by_label["rare"] == {TRAIN: 1}


def test_the_same_photos_get_the_same_split_in_any_order() -> None:
    examples = photos("cat", range(40)) + photos("dog", range(25))
    shuffled = random.Random(2).sample(examples, len(examples))
    assert assign_splits(examples, SHARES, {}) == assign_splits(shuffled, SHARES, {})


def test_the_split_does_not_depend_on_names_or_locations() -> None:
    examples = photos("cat", range(30))
    hashes_in_order = enumerate(hashes(examples))
    moved = [Example(f"s3://elsewhere/{number}", "cat", sha256=sha256) for number, sha256 in hashes_in_order]
    assert assign_splits(examples, SHARES, {}) == assign_splits(moved, SHARES, {})


def test_new_photos_move_no_old_one_and_the_shares_stay() -> None:
    chance = random.Random(3)
    for _ in range(100):
        start = {label: chance.randint(5, 120) for label in ("cat", "dog", "cow")}
        before: Mapping[str, Split] = {}
        for growth in (1.0, 1.2, 1.44):
            sizes = {label: int(count * growth) for label, count in start.items()}
            examples = [example for label, size in sizes.items() for example in photos(label, range(size))]
            splits = assign_splits(examples, SHARES, before)
            assert before.items() <= splits.items()
            for label, split_counts in counts(examples, splits).items():
                target = SHARES.counts_of(sizes[label])
                assert all(abs(split_counts[split] - target[split]) <= 1 for split in Split)
            before = splits


def test_photos_that_are_gone_leave_the_others_where_they_were() -> None:
    examples = photos("cat", range(50))
    before = assign_splits(examples, SHARES, {})
    splits = assign_splits(examples[10:], SHARES, before)
    assert splits == {example.sha256: before[example.sha256] for example in examples[10:]}


def test_copies_of_a_photo_are_counted_once_and_stay_together() -> None:
    examples = photos("cat", range(10))
    copies = [Example(f"copy-of-{example.image}", "cat", sha256=example.sha256) for example in examples]
    assert assign_splits(examples + copies, SHARES, {}) == assign_splits(examples, SHARES, {})


def test_a_photo_under_two_labels_has_one_split() -> None:
    cats, dogs = photos("cat", range(20)), photos("dog", range(20))
    both = [Example(f"dog/{example.image}", "dog", sha256=example.sha256) for example in cats[:10]]
    splits = assign_splits(cats + dogs + both, SHARES, {})
    assert splits.keys() == {example.sha256 for example in cats + dogs}


def test_a_photo_under_two_labels_has_the_same_split_in_any_order() -> None:
    cats, dogs = photos("cat", range(20)), photos("dog", range(20))
    examples = cats + dogs + [Example(f"dog/{example.image}", "dog", sha256=example.sha256) for example in cats[:10]]
    assert assign_splits(examples, SHARES, {}) == assign_splits(examples[::-1], SHARES, {})


def test_the_users_test_photos_are_for_testing_and_no_others_are() -> None:
    examples = photos("cat", range(40)) + photos("dog", range(40))
    own = [Example(example.image, "cat", sha256=example.sha256, split=TEST) for example in photos("own", range(7))]
    splits = assign_splits(examples + own, SHARES, {})
    assert {sha256 for sha256, split in splits.items() if split is TEST} == {example.sha256 for example in own}
    assert counts(examples, splits)["cat"] == {TRAIN: 36, VALIDATION: 4}


def test_the_users_test_photos_take_the_place_of_earlier_ones() -> None:
    examples = photos("cat", range(40))
    before = assign_splits(examples, SHARES, {})
    own = [Example("own.jpg", "cat", sha256="f" * 64, split=TEST)]
    splits = assign_splits(examples + own, SHARES, before)
    assert [sha256 for sha256, split in splits.items() if split is TEST] == ["f" * 64]
    assert all(splits[sha256] is split for sha256, split in before.items() if split is not TEST)


def test_a_copy_of_the_users_test_photo_is_not_trained_on() -> None:
    examples = photos("cat", range(10))
    own = [Example("own.jpg", "cat", sha256=examples[0].sha256, split=TEST)]
    assert assign_splits(examples + own, SHARES, {})[examples[0].sha256] is TEST


# -- near-duplicates --------------------------------------------------------------------------------------------------


def hashes(examples: Iterable[Example]) -> list[str]:
    return [example.sha256 for example in examples]


def test_near_duplicates_get_one_split_and_the_shares_stay() -> None:
    examples = photos("cat", range(50)) + photos("dog", range(50))
    groups = [hashes(examples[start : start + 3]) for start in range(0, 30, 3)]
    splits = assign_splits(examples, SHARES, {}, groups)
    assert all(len({splits[sha256] for sha256 in group}) == 1 for group in groups)
    for split_counts in counts(examples, splits).values():
        assert split_counts == {TRAIN: 40, VALIDATION: 5, TEST: 5}


def test_a_new_photo_joins_the_split_of_its_near_duplicate() -> None:
    examples = photos("cat", range(50))
    before = assign_splits(examples, SHARES, {})
    for split in Split:
        old = next(example for example in examples if before[example.sha256] is split)
        new = photos("new", [1])
        splits = assign_splits([*examples, *new], SHARES, before, [[old.sha256, new[0].sha256]])
        assert splits[new[0].sha256] is split


def test_old_photos_that_a_new_one_connects_stay_where_they_are() -> None:
    examples = photos("cat", range(50))
    before = assign_splits(examples, SHARES, {})
    new = photos("new", [1])
    splits = assign_splits([*examples, *new], SHARES, before, [hashes([*examples, *new])])
    assert before.items() <= splits.items()
    assert splits[new[0].sha256] is TRAIN  # where most of them are


def test_a_group_that_is_larger_than_a_share_is_for_training() -> None:
    examples = photos("cat", range(20))
    splits = assign_splits(examples, SHARES, {}, [hashes(examples[:10])])
    assert {splits[example.sha256] for example in examples[:10]} == {TRAIN}
    assert counts(examples, splits)["cat"] == {TRAIN: 16, VALIDATION: 2, TEST: 2}


def test_a_near_duplicate_of_the_users_test_photo_is_no_test_photo() -> None:
    examples = photos("cat", range(20))
    own = [Example("own.jpg", "cat", sha256="f" * 64, split=TEST)]
    splits = assign_splits(examples + own, SHARES, {}, [["f" * 64, examples[0].sha256]])
    assert splits[examples[0].sha256] in {TRAIN, VALIDATION}
    assert splits["f" * 64] is TEST


def test_a_near_duplicate_joins_the_split_that_the_user_chose() -> None:
    examples = photos("cat", range(20))
    own = [Example("own.jpg", "cat", sha256="f" * 64, split=VALIDATION)]
    splits = assign_splits(examples + own, SHARES, {}, [["f" * 64, examples[0].sha256]])
    assert splits[examples[0].sha256] is VALIDATION


def test_a_split_without_a_share_gets_no_group() -> None:
    examples = photos("cat", range(9))
    groups = [hashes(examples[start : start + 3]) for start in (0, 3, 6)]
    assert set(assign_splits(examples, SplitShares(100, 0, 0), {}, groups).values()) == {TRAIN}


@st.composite
def growing(draw: st.DrawFn) -> tuple[list[Example], list[Example], list[list[str]], SplitShares]:
    """Photos of up to three classes, a fifth as many new ones, and groups of near-duplicates among all of them."""
    labels = draw(st.sampled_from([["cat", "dog"], ["cat", "dog", "cow"]]))
    sizes = [draw(st.integers(1, 60)) for _ in labels]
    ranges = [(label, range(size), range(size, size * 6 // 5)) for label, size in zip(labels, sizes, strict=True)]
    old = [example for label, numbers, _ in ranges for example in photos(label, numbers)]
    new = [example for label, _, numbers in ranges for example in photos(label, numbers)]
    shuffled = draw(st.permutations(hashes(old + new)))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=6)))
    groups = [list(shuffled[start:end]) for start, end in pairwise(cuts)]
    shares = draw(st.sampled_from([SHARES, SplitShares(70, 15, 15), SplitShares(90, 0, 10), SplitShares(1, 1, 1)]))
    return old, new, groups, shares


@settings(max_examples=100, deadline=None, derandomize=True)
@given(growing())
def test_a_fifth_more_photos_move_none_whatever_the_groups(
    case: tuple[list[Example], list[Example], list[list[str]], SplitShares],
) -> None:
    old, new, groups, shares = case
    there = set(hashes(old))
    first = assign_splits(old, shares, {}, [[sha256 for sha256 in group if sha256 in there] for group in groups])
    then = assign_splits(old + new, shares, first, groups)
    moved = [sha256 for sha256 in first if then[sha256] is not first[sha256]]
    assert moved == []
    assert then.keys() == set(hashes(old + new))
    assert assign_splits((old + new)[::-1], shares, first, groups) == then
    for group in groups:
        fresh = {then[sha256] for sha256 in group if sha256 not in there}
        assert len(fresh) <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(growing())
def test_without_near_duplicates_each_class_has_its_shares_after_every_growth(
    case: tuple[list[Example], list[Example], list[list[str]], SplitShares],
) -> None:
    old, new, _, shares = case
    then = assign_splits(old + new, shares, assign_splits(old, shares, {}))
    for label, split_counts in counts(old + new, then).items():
        target = shares.counts_of(sum(example.label == label for example in old + new))
        assert all(abs(split_counts[split] - target[split]) <= 1 for split in Split)
