"""Find photos whose label differs from that in the version in service: fixed labels, or labels swapped by mistake."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from train_job.data.example import Example
from train_job.data.photos import Photos
from train_job.digests import indices_in
from train_job.quality.codes import Note

MAX_CHANGED_SHARE = 0.2
"""Largest share of the common photos that may have another label before promotion is refused."""
MAX_CHANGED_CLASS_SHARE = 0.5
"""Largest share of a class's common photos that may have another label before promotion is refused."""
MIN_CHANGED = 5
"""Fewer photos with another label are never a reason against promotion."""

_MAX_NAMED = 5


@dataclass(frozen=True)
class LabelChanges:
    """Photos with another label than in an earlier version, compared by content.

    Attributes:
        model_id: the earlier version.
        common: photos that both have, by their earlier label.
        changed: photos with another label, each with its earlier label.
    """

    model_id: str = ""
    common: Mapping[str, int] = field(default_factory=dict)
    changed: tuple[tuple[Example, str], ...] = ()

    @cached_property
    def pairs(self) -> dict[tuple[str, str], int]:
        """Number of photos by earlier and new label, the most first."""
        counts = Counter((label, example.label) for example, label in self.changed)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def summary(self) -> str:
        """Describe the changes in one sentence without its full stop; empty if no label has changed."""
        if not self.changed:
            return ""
        total = sum(self.common.values())
        count = len(self.changed)
        return (
            f"{count} of {total} photos ({count / total:.0%}) have another label than in {self.model_id}:"
            f" {self._describe_pairs()}"
        )

    def reasons(self) -> list[str]:
        """Reasons against promotion: too many photos, or too many of one class, have another label."""
        if len(self.changed) < MIN_CHANGED:
            return []
        hint = "check the labels, or promote the version by hand"
        if len(self.changed) > MAX_CHANGED_SHARE * sum(self.common.values()):
            return [f"{self.summary()} (limit {MAX_CHANGED_SHARE:.0%}); {hint}"]
        by_class = Counter(label for _, label in self.changed)
        still_used = {example.label for example, _ in self.changed} | {
            label for label, count in self.common.items() if count > by_class[label]
        }
        return [
            f"{count} of {self.common[label]} photos of {label!r} have another label than in {self.model_id}"
            f" (limit {MAX_CHANGED_CLASS_SHARE:.0%}): {self._describe_pairs(label)}; {hint}"
            for label, count in sorted(by_class.items())
            if count >= MIN_CHANGED and count > MAX_CHANGED_CLASS_SHARE * self.common[label] and label in still_used
        ]

    def notes(self) -> list[Note]:
        """A note for each photo with another label."""
        return [
            Note(example.image, example.row, "relabelled", f"is {example.label!r} and was {label!r} in {self.model_id}")
            for example, label in self.changed
        ]

    def to_dict(self) -> dict[str, Any]:
        """The entry ``label_changes`` of evaluation.json and check.json."""
        pairs = [{"from": old, "to": new, "photos": count} for (old, new), count in self.pairs.items()]
        return {
            "model_id": self.model_id,
            "photos": sum(self.common.values()),
            "changed": len(self.changed),
            "pairs": pairs,
        }

    def _describe_pairs(self, only: str | None = None) -> str:
        """Describe the pairs of labels with the most photos; of one earlier label if ``only`` names it."""
        texts: list[str] = []
        seen: set[tuple[str, str]] = set()
        for (old, new), count in self.pairs.items():
            if (old, new) in seen or only not in (None, old, new):
                continue
            if self._are_swapped(old, new):
                seen.add((new, old))
                texts.append(f"{old!r} <-> {new!r} swapped? ({count} + {self.pairs[new, old]})")
            elif only in (None, old):
                texts.append(f"{old!r} -> {new!r} ({count})")
        return ", ".join(texts[:_MAX_NAMED]) + (", …" if len(texts) > _MAX_NAMED else "")

    def _are_swapped(self, first: str, second: str) -> bool:
        """Whether at least half of the photos of each label now have the other label."""
        there, back = self.pairs.get((first, second), 0), self.pairs.get((second, first), 0)
        return back > 0 and 2 * there >= self.common[first] and 2 * back >= self.common[second]


def find_label_changes(model_id: str, previous: Sequence[Example], current: Sequence[Example]) -> LabelChanges:
    """Compare the labels of the photos that two data sets have in common, by sha256."""
    before, now = Photos.of(previous), Photos.of(current)
    order = np.argsort(before.digests, kind="stable")
    match = indices_in(before.digests[order], now.digests)
    common = np.flatnonzero(match >= 0)
    old = before.label_codes[order[match[common]]]
    counts = np.bincount(old, minlength=len(before.labels)).tolist()
    is_changed = now.class_indices(before.labels)[common] != old
    changed = zip(now.take(common[is_changed]), old[is_changed].tolist(), strict=True)
    return LabelChanges(
        model_id,
        Counter({label: count for label, count in zip(before.labels, counts, strict=True) if count}),
        tuple((photo, before.labels[label]) for photo, label in changed),
    )
