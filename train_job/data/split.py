"""Assign photos to training, validation and test by their content: stratified by class, and stable over retrains."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from train_job.data.example import Example, Split
from transferlite.errors import InputError


@dataclass(frozen=True)
class SplitShares:
    """Relative shares of training, validation and test; any non-negative numbers."""

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        if not all(map(math.isfinite, parts)) or min(parts) < 0 or self.train <= 0:
            raise InputError(f"cannot split as {self}", hint="write it as 80/10/10, with a training share above 0")

    @classmethod
    def parse(cls, text: str) -> "SplitShares":
        """Parse ``80/10/10``, the shares of training, validation and test. Raises InputError."""
        try:
            train, validation, test = (float(part) for part in text.split("/"))
        except ValueError:
            raise InputError(f"{text!r} is not a split", hint="write it as 80/10/10") from None
        return cls(train, validation, test)

    def adjust_for(self, examples: Sequence[Example]) -> "SplitShares":
        """Set the test share to 0 if the user chose the test photos."""
        has_user_tests = any(example.split is Split.TEST for example in examples)
        return replace(self, test=0.0) if has_user_tests else self

    @property
    def parts(self) -> dict[Split, float]:
        """Share of each split."""
        return {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}

    def __str__(self) -> str:
        return f"{self.train:g}/{self.validation:g}/{self.test:g}"

    def counts_of(self, total: int) -> dict[Split, int]:
        """Divide ``total`` photos into whole counts by the largest remainder method.

        Of equal remainders, test wins: without a test photo nothing can be published.
        """
        exact = {split: part * total / sum(self.parts.values()) for split, part in self.parts.items()}
        whole = {split: int(value) for split, value in exact.items()}
        by_remainder = sorted(
            (Split.TEST, Split.VALIDATION, Split.TRAIN), key=lambda split: round(whole[split] - exact[split], 9)
        )
        for split in by_remainder[: total - sum(whole.values())]:
            whole[split] += 1
        return whole


def assign_splits(
    examples: Sequence[Example],
    shares: SplitShares,
    previous: Mapping[str, Split],
    groups: Sequence[Sequence[str]] = (),
) -> dict[str, Split]:
    """Assign a split to each photo, by its sha256.

    1. A split that the user chose is kept. If the user chose test photos, no other photo becomes a test photo.
    2. A photo keeps its split of an earlier version.
    3. A new photo joins the split of the known photos of its group.
    4. Other new photos go where their class is furthest below its share: the largest groups first, then single photos,
       in the order of their sha256.

    So the same photos always get the same splits, new photos never move old ones, the splits stay stratified, and a
    group stays together.

    Args:
        examples: the photos, with their sha256.
        shares: of training, validation and test.
        previous: split by sha256 in earlier versions.
        groups: sha256s of photos to keep in one split, such as near-duplicates.
    """
    chosen_by_user = {example.sha256: example.split for example in examples if example.split is not None}
    fixed = {**previous, **chosen_by_user}
    if Split.TEST in chosen_by_user.values():
        fixed = {sha256: split for sha256, split in fixed.items() if split is not Split.TEST}
    others = [example for example in examples if example.sha256 not in chosen_by_user]
    return chosen_by_user | _assign(others, shares.adjust_for(examples), fixed, groups)


def _assign(
    examples: Sequence[Example], shares: SplitShares, fixed: Mapping[str, Split], groups: Sequence[Sequence[str]]
) -> dict[str, Split]:
    label_of: dict[str, str] = {}
    for example in examples:
        label_of[example.sha256] = min(example.label, label_of.get(example.sha256, example.label))
    quotas = _SplitQuotas(shares, Counter(label_of.values()))
    assigned = {sha256: fixed[sha256] for sha256 in label_of if sha256 in fixed}
    for sha256, split in assigned.items():
        quotas.add(split, Counter([label_of[sha256]]))
    for split, group in _known_groups(groups, fixed):
        for sha256 in group:
            if sha256 in label_of and sha256 not in assigned:
                quotas.add(split, Counter([label_of[sha256]]))
                assigned[sha256] = split
    for unit in _units(label_of.keys() - assigned.keys(), groups):
        labels = Counter(label_of[sha256] for sha256 in unit)
        split = quotas.best_split(labels)
        quotas.add(split, labels)
        assigned |= dict.fromkeys(unit, split)
    return assigned


def _known_groups(groups: Sequence[Sequence[str]], fixed: Mapping[str, Split]) -> Iterator[tuple[Split, Sequence[str]]]:
    """Yield each group that has photos with a fixed split, and the split of most of them."""
    for group in groups:
        votes = Counter(fixed[sha256] for sha256 in group if sha256 in fixed)
        if votes:
            yield max(Split, key=lambda split: votes[split]), group


def _units(hashes: Set[str], groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the groups and single photos to assign: the largest first, then in the order of their sha256s."""
    remaining = [sorted(sha256 for sha256 in group if sha256 in hashes) for group in groups]
    grouped = {sha256 for group in remaining for sha256 in group}
    units = [group for group in remaining if group] + [[sha256] for sha256 in hashes - grouped]
    return sorted(units, key=lambda unit: (-len(unit), unit))


class _SplitQuotas:
    """Number of photos of each class that each split has and should have."""

    def __init__(self, shares: SplitShares, photos_by_label: Mapping[str, int]) -> None:
        self._target = {
            (label, split): count
            for label, photos in photos_by_label.items()
            for split, count in shares.counts_of(photos).items()
        }
        self._count: Counter[tuple[str, Split]] = Counter()
        self._used_splits = [split for split, share in shares.parts.items() if share > 0]

    def add(self, split: Split, labels: Mapping[str, int]) -> None:
        """Count photos of each class as assigned to ``split``."""
        for label, count in labels.items():
            self._count[label, split] += count

    def best_split(self, labels: Mapping[str, int]) -> Split:
        """Choose the split for photos of each class: of those with room for all, the one furthest below its share.

        Without such a split, choose the one that exceeds its share by the fewest photos.
        """
        excess = {split: sum(max(0, n - self._room(label, split)) for label, n in labels.items()) for split in Split}
        with_room = [split for split in Split if not excess[split]]
        if not with_room:
            return min(self._used_splits, key=lambda split: excess[split])
        return max(with_room, key=lambda split: sum(self._deficit(label, split) * n for label, n in labels.items()))

    def _room(self, label: str, split: Split) -> int:
        return self._target[label, split] - self._count[label, split]

    def _deficit(self, label: str, split: Split) -> float:
        return self._room(label, split) / max(self._target[label, split], 1)
