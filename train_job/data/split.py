"""Which photos are for training, validation and test: by content, a class at a time, and never to change."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from train_job.data.dataset import Example, Split
from transferlite.errors import InputError


@dataclass(frozen=True)
class Shares:
    """The parts of the whole that training, validation and test get; any non-negative numbers."""

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        if not all(map(math.isfinite, parts)) or min(parts) < 0 or self.train <= 0:
            raise InputError(f"cannot split as {self}", hint="write it as 80/10/10, with something to train on")

    @classmethod
    def parse(cls, text: str) -> "Shares":
        """``80/10/10`` -> the shares of training, validation and test. Raises InputError."""
        try:
            train, validation, test = (float(part) for part in text.split("/"))
        except ValueError:
            raise InputError(f"{text!r} is not a split", hint="write it as 80/10/10") from None
        return cls(train, validation, test)

    def used_for(self, examples: Sequence[Example]) -> "Shares":
        """These shares, less the test's where the user chose the test photos."""
        own = any(example.split is Split.TEST for example in examples)
        return replace(self, test=0.0) if own else self

    @property
    def parts(self) -> dict[Split, float]:
        """The share of each split."""
        return {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}

    def __str__(self) -> str:
        return f"{self.train:g}/{self.validation:g}/{self.test:g}"

    def of(self, count: int) -> dict[Split, int]:
        """``count`` in whole parts that add up to it, each within one of its exact share (largest remainder).

        Of equal remainders the test's goes first: without a test photo nothing can be published.
        """
        exact = {split: part * count / sum(self.parts.values()) for split, part in self.parts.items()}
        whole = {split: int(value) for split, value in exact.items()}
        by_rest = sorted(
            (Split.TEST, Split.VALIDATION, Split.TRAIN), key=lambda split: round(whole[split] - exact[split], 9)
        )
        for split in by_rest[: count - sum(whole.values())]:
            whole[split] += 1
        return whole


def assign_splits(
    examples: Sequence[Example],
    shares: Shares,
    before: Mapping[str, Split],
    together: Sequence[Sequence[str]] = (),
) -> dict[str, Split]:
    """A split for each photo's sha256.

    The user's own choice wins; where they chose the test photos, no other photo becomes one. A photo keeps the split
    that ``before`` (sha256 -> split, from earlier versions) gives it. New ones go where their class lacks most of its
    share, in the order of their hash; those that ``together`` (groups of sha256s) names go as one, the largest groups
    first, and to where the group has old photos already. So the same photos give the same split, new photos move no
    old one, the shares stay stratified, and copies of one photo are never parted.
    """
    fixed = {example.sha256: example.split for example in examples if example.split is not None}
    anchors = {**before, **fixed}
    if Split.TEST in fixed.values():
        anchors = {sha256: split for sha256, split in anchors.items() if split is not Split.TEST}
    rest = [example for example in examples if example.sha256 not in fixed]
    return fixed | _assign(rest, shares.used_for(examples), anchors, together)


def _assign(
    examples: Sequence[Example], shares: Shares, anchors: Mapping[str, Split], together: Sequence[Sequence[str]]
) -> dict[str, Split]:
    label_of: dict[str, str] = {}
    for example in examples:
        label_of[example.sha256] = min(example.label, label_of.get(example.sha256, example.label))
    places = _Places(shares, Counter(label_of.values()))
    chosen = {sha256: anchors[sha256] for sha256 in label_of if sha256 in anchors}
    for sha256, split in chosen.items():
        places.take(split, Counter([label_of[sha256]]))
    for split, group in _joining(together, anchors):
        for sha256 in group:
            if sha256 in label_of and sha256 not in chosen:
                places.take(split, Counter([label_of[sha256]]))
                chosen[sha256] = split
    for unit in _units(label_of.keys() - chosen.keys(), together):
        labels = Counter(label_of[sha256] for sha256 in unit)
        split = places.best(labels)
        places.take(split, labels)
        chosen |= dict.fromkeys(unit, split)
    return chosen


def _joining(together: Sequence[Sequence[str]], anchors: Mapping[str, Split]) -> Iterator[tuple[Split, Sequence[str]]]:
    """The groups that have photos in a split already: in that of most of them."""
    for group in together:
        votes = Counter(anchors[sha256] for sha256 in group if sha256 in anchors)
        if votes:
            yield max(Split, key=lambda split: votes[split]), group


def _units(hashes: Set[str], together: Sequence[Sequence[str]]) -> list[list[str]]:
    """What has to be placed: groups, the largest first, then single photos; else in the order of their hash."""
    groups = [sorted(sha256 for sha256 in group if sha256 in hashes) for group in together]
    grouped = {sha256 for group in groups for sha256 in group}
    units = [group for group in groups if group] + [[sha256] for sha256 in hashes - grouped]
    return sorted(units, key=lambda unit: (-len(unit), unit))


class _Places:
    """How many photos of each class each split has and should have."""

    def __init__(self, shares: Shares, labels: Mapping[str, int]) -> None:
        self._target = {(label, split): n for label, count in labels.items() for split, n in shares.of(count).items()}
        self._count: Counter[tuple[str, Split]] = Counter()
        self._open = [split for split, share in shares.parts.items() if share > 0]

    def take(self, split: Split, labels: Mapping[str, int]) -> None:
        """So many photos of each class go to ``split``."""
        for label, count in labels.items():
            self._count[label, split] += count

    def best(self, labels: Mapping[str, int]) -> Split:
        """Where so many photos of each class go: among the splits that have room for them, where most is lacking.

        Where there is no such room, to the split that then exceeds its share by least.
        """
        excess = {split: sum(max(0, n - self._room(label, split)) for label, n in labels.items()) for split in Split}
        roomy = [split for split in Split if not excess[split]]
        if not roomy:
            return min(self._open, key=lambda split: excess[split])
        return max(roomy, key=lambda split: sum(self._lack(label, split) * n for label, n in labels.items()))

    def _room(self, label: str, split: Split) -> int:
        return self._target[label, split] - self._count[label, split]

    def _lack(self, label: str, split: Split) -> float:
        return self._room(label, split) / max(self._target[label, split], 1)
