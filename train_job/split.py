"""Which photos are for training, validation and test: by content, a class at a time, and never to change."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.errors import InputError
from train_job.dataset import Example, Split


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

    def __str__(self) -> str:
        return f"{self.train:g}/{self.validation:g}/{self.test:g}"

    def of(self, count: int) -> dict[Split, int]:
        """``count`` in whole parts that add up to it, each within one of its exact share (largest remainder).

        Of equal remainders the test's goes first: without a test photo nothing can be published.
        """
        parts = {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
        exact = {split: part * count / sum(parts.values()) for split, part in parts.items()}
        whole = {split: int(value) for split, value in exact.items()}
        by_rest = sorted(
            (Split.TEST, Split.VALIDATION, Split.TRAIN), key=lambda split: round(whole[split] - exact[split], 9)
        )
        for split in by_rest[: count - sum(whole.values())]:
            whole[split] += 1
        return whole


def assign(examples: Sequence[Example], shares: Shares, before: Mapping[str, Split]) -> dict[str, Split]:
    """A split for each photo's sha256.

    The user's own choice wins; where they chose the test photos, no other photo becomes one. A photo keeps the split
    that ``before`` (sha256 -> split, from the last version) gives it. New ones, a class at a time and in the order of
    their hash, go where that class lacks most of its share. So the same photos give the same split, new photos move no
    old one, the shares stay stratified, and copies of one photo are never parted.
    """
    fixed = {example.sha256: example.split for example in examples if example.split is not None}
    if Split.TEST in fixed.values():
        before = {sha256: split for sha256, split in before.items() if split is not Split.TEST}
    rest = [example for example in examples if example.sha256 not in fixed]
    return fixed | _assign(rest, shares.used_for(examples), before)


def _assign(examples: Sequence[Example], shares: Shares, before: Mapping[str, Split]) -> dict[str, Split]:
    by_label: dict[str, set[str]] = defaultdict(set)
    owner: dict[str, str] = {}
    for example in examples:
        owner[example.sha256] = min(example.label, owner.get(example.sha256, example.label))
    for sha256, label in owner.items():
        by_label[label].add(sha256)
    chosen: dict[str, Split] = {}
    for hashes in by_label.values():
        kept = {sha256: before[sha256] for sha256 in hashes if sha256 in before}
        counts = Counter(kept.values())
        target = shares.of(len(hashes))
        for sha256 in sorted(hashes - kept.keys()):
            split = max(target, key=lambda split: (target[split] - counts[split]) / max(target[split], 1))
            counts[split] += 1
            kept[sha256] = split
        chosen |= kept
    return chosen
