import hashlib
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from runtime.errors import InputError
from train_job.dataset import Example, Split
from train_job.split import Shares, assign

TRAIN, VALIDATION, TEST = Split
SHARES = Shares(80, 10, 10)
NOT_FINITE = ["nan/1/1", "80/nan/10", "inf/1/1"]


def photos(label: str, numbers: Iterable[int]) -> list[Example]:
    names = (f"{label}/{number}.jpg" for number in numbers)
    return [Example(name, label, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names]


def counts(examples: Iterable[Example], splits: dict[str, Split]) -> dict[str, Counter[Split]]:
    found: dict[str, Counter[Split]] = {}
    for example in examples:
        found.setdefault(example.label, Counter())[splits[example.sha256]] += 1
    return found


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("80/10/10", Shares(80, 10, 10)),
        ("8/1/1", Shares(8, 1, 1)),
        (" 0.7 / .2 / .1 ", Shares(0.7, 0.2, 0.1)),
        ("1/0/0", Shares(1, 0, 0)),
    ],
)
def test_shares_are_read(text: str, shares: Shares) -> None:
    assert Shares.parse(text) == shares
    assert Shares.parse(str(shares)) == shares


@pytest.mark.parametrize(
    "text",
    ["", "80", "80/20", "80/10/10/0", "a/b/c", "80-10-10", "-1/1/1", "80/-10/30", "0/50/50", *NOT_FINITE],
)
def test_shares_that_cannot_be_meant_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="80/10/10"):
        Shares.parse(text)


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
    assert tuple(Shares.parse(text).of(count).values()) == parts


def test_parts_add_up_and_are_within_one_of_the_exact_share() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        weights = [chance.choice([0.0, chance.random(), chance.randint(1, 100)]) for _ in range(2)]
        shares, count = Shares(chance.uniform(0.01, 100), *weights), chance.randint(0, 500)
        parts = shares.of(count)
        exact = {
            split: share * count / (shares.train + sum(weights))
            for split, share in zip(Split, (shares.train, *weights), strict=True)
        }
        assert sum(parts.values()) == count
        assert all(abs(parts[split] - exact[split]) < 1 + 1e-9 for split in Split)
        assert all(parts[split] == 0 for split in Split if exact[split] == 0)


def test_each_class_is_split_by_the_shares() -> None:
    examples = photos("cat", range(50)) + photos("dog", range(10)) + photos("rare", range(1))
    found = counts(examples, assign(examples, SHARES, {}))
    assert found["cat"] == {TRAIN: 40, VALIDATION: 5, TEST: 5}
    assert found["dog"] == {TRAIN: 8, VALIDATION: 1, TEST: 1}
    assert found["rare"] == {TRAIN: 1}


def test_the_same_photos_get_the_same_split_in_any_order() -> None:
    examples = photos("cat", range(40)) + photos("dog", range(25))
    shuffled = random.Random(2).sample(examples, len(examples))
    assert assign(examples, SHARES, {}) == assign(shuffled, SHARES, {})


def test_the_split_does_not_follow_names_or_places() -> None:
    examples = photos("cat", range(30))
    moved = [Example(f"s3://elsewhere/{number}", "cat", sha256=one.sha256) for number, one in enumerate(examples)]
    assert assign(examples, SHARES, {}) == assign(moved, SHARES, {})


def test_new_photos_move_no_old_one_and_the_shares_stay() -> None:
    chance = random.Random(3)
    for _ in range(100):
        start = {label: chance.randint(5, 120) for label in ("cat", "dog", "cow")}
        before: dict[str, Split] = {}
        for growth in (1.0, 1.2, 1.44):
            examples = [one for label, count in start.items() for one in photos(label, range(int(count * growth)))]
            splits = assign(examples, SHARES, before)
            assert before.items() <= splits.items()
            for label, found in counts(examples, splits).items():
                target = SHARES.of(int(start[label] * growth))
                assert all(abs(found[split] - target[split]) <= 1 for split in Split)
            before = splits


def test_photos_that_are_gone_leave_the_others_where_they_were() -> None:
    examples = photos("cat", range(50))
    before = assign(examples, SHARES, {})
    splits = assign(examples[10:], SHARES, before)
    assert splits == {one.sha256: before[one.sha256] for one in examples[10:]}


def test_copies_of_a_photo_are_counted_once_and_stay_together() -> None:
    examples = photos("cat", range(10))
    copies = [Example(f"copy-of-{one.image}", "cat", sha256=one.sha256) for one in examples]
    assert assign(examples + copies, SHARES, {}) == assign(examples, SHARES, {})


def test_a_photo_under_two_labels_has_one_split() -> None:
    cats, dogs = photos("cat", range(20)), photos("dog", range(20))
    both = [Example(f"dog/{one.image}", "dog", sha256=one.sha256) for one in cats[:10]]
    splits = assign(cats + dogs + both, SHARES, {})
    assert splits.keys() == {one.sha256 for one in cats + dogs}


def test_a_photo_under_two_labels_has_the_same_split_in_any_order() -> None:
    cats, dogs = photos("cat", range(20)), photos("dog", range(20))
    examples = cats + dogs + [Example(f"dog/{one.image}", "dog", sha256=one.sha256) for one in cats[:10]]
    assert assign(examples, SHARES, {}) == assign(examples[::-1], SHARES, {})


def test_the_users_test_photos_are_for_testing_and_no_others_are() -> None:
    examples = photos("cat", range(40)) + photos("dog", range(40))
    own = [Example(one.image, "cat", sha256=one.sha256, split=TEST) for one in photos("own", range(7))]
    splits = assign(examples + own, SHARES, {})
    assert {sha256 for sha256, split in splits.items() if split is TEST} == {one.sha256 for one in own}
    assert counts(examples, splits)["cat"] == {TRAIN: 36, VALIDATION: 4}


def test_the_users_test_photos_take_the_place_of_earlier_ones() -> None:
    examples = photos("cat", range(40))
    before = assign(examples, SHARES, {})
    own = [Example("own.jpg", "cat", sha256="f" * 64, split=TEST)]
    splits = assign(examples + own, SHARES, before)
    assert [sha256 for sha256, split in splits.items() if split is TEST] == ["f" * 64]
    assert all(splits[one.sha256] is before[one.sha256] for one in examples if before[one.sha256] is not TEST)


def test_a_copy_of_the_users_test_photo_is_not_trained_on() -> None:
    examples = photos("cat", range(10))
    own = [Example("own.jpg", "cat", sha256=examples[0].sha256, split=TEST)]
    assert assign(examples + own, SHARES, {})[examples[0].sha256] is TEST
