"""The comparison of the channel's version and a new one on the same test photos: counts, decision and text.

The channel's version is the champion, the new one the challenger. :mod:`train_job.evaluation.mcnemar_test` decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_job.evaluation.mcnemar_test import (
    CLASS_LEVEL,
    MIN_PHOTOS,
    OVERALL_LEVEL,
    POWER,
    Verdict,
    check,
    detectable_drop,
)

LARGE_DROP = 0.2
"""Drop in accuracy that the overall check should find; a note reports test photos that are too few for it."""
LARGE_CLASS_DROP = 0.5
"""Drop in recall that a class's own check should find; a note reports test photos that are too few for it."""

_MAX_NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """Correct predictions of two versions on test photos that neither learnt, with labels that both know.

    Attributes:
        champion: id of the channel's version.
        classes: counts by label: ``photos``, correct predictions of the ``champion`` and the ``challenger``, and of
            ``only_champion`` and ``only_challenger``.
        gone: labels that the champion knows and the challenger does not.
        tolerance: largest drop in a class's recall that is never a reason against promotion, 0 to 1.
    """

    champion: str
    classes: Mapping[str, Mapping[str, int]]
    gone: tuple[str, ...]
    tolerance: float

    def total(self, count: str) -> int:
        """Sum of a count over the classes."""
        return sum(counts[count] for counts in self.classes.values())

    @cached_property
    def verdict(self) -> Verdict:
        """The result of the promotion check; its classes have the order of :attr:`classes`."""
        names = ("photos", "only_champion", "only_challenger")
        photos, lost, won = (np.array([row[name] for row in self.classes.values()], np.int64) for name in names)
        return check(photos, lost, won, self.tolerance)

    @property
    def detectable(self) -> float | None:
        """Smallest drop in accuracy that the overall check finds with probability POWER; None if it finds none."""
        return detectable_drop(self.total("photos"), OVERALL_LEVEL, self.tolerance)

    @property
    def p_value(self) -> float:
        """McNemar's one-sided mid-p value over all photos; small where the challenger is worse."""
        return float(self.verdict.p_value)

    def reasons(self) -> list[str]:
        """Reasons against promotion: missing classes, and drops that the promotion check refuses.

        See :func:`train_job.evaluation.mcnemar_test.check`.
        """
        reasons = [f"class {label!r} of {self.champion} is missing from this version" for label in self.gone]
        verdict = self.verdict
        rows = zip(self.classes.items(), verdict.worse_classes, verdict.class_p_values, strict=True)
        reasons += [f"{label!r}: recall {_fell(counts, p_value)}" for (label, counts), worse, p_value in rows if worse]
        if verdict.worse:
            totals = {name: self.total(name) for name in next(iter(self.classes.values()))}
            reasons.append(f"accuracy {_fell(totals, self.p_value)}, most of them in {self._most_lost()}")
        return reasons

    def notes(self) -> list[str]:
        """Drops that the check cannot find because there are too few test photos; these are no reasons."""
        photos = self.total("photos")
        if not photos:
            return [f"promotion check: no test photo suits both {self.champion} and this version, nothing was compared"]
        notes = []
        drop = self.detectable
        if drop is None or drop > LARGE_DROP:
            smallest = "no drop in accuracy" if drop is None else f"only drops in accuracy of {drop:.0%} or more"
            notes.append(
                f"promotion check: {photos} test photos are too few, it finds {smallest} with {POWER:.0%} probability:"
                " add test photos"
            )
        few = [label for label, counts in self.classes.items() if counts["photos"] < MIN_PHOTOS]
        if few:
            notes.append(
                f"promotion check: fewer than {MIN_PHOTOS} test photos in {len(few)} of {len(self.classes)} classes,"
                f" which only the overall check covers: {_some(few)}"
            )
        weak = [label for label in self.classes if label not in few and self._misses_large_drop(label)]
        if weak:
            notes.append(
                f"promotion check: too few test photos in {len(weak)} of {len(self.classes)} classes to find a drop in"
                f" recall of {LARGE_CLASS_DROP:.0%} with {POWER:.0%} probability: {_some(weak)}"
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """The entry ``comparison`` of evaluation.json."""
        verdict = self.verdict
        return {
            "champion": self.champion,
            "photos": self.total("photos"),
            "both_right": self.total("champion") - self.total("only_champion"),
            "only_champion": self.total("only_champion"),
            "only_challenger": self.total("only_challenger"),
            "tolerance": self.tolerance,
            "levels": {"overall": OVERALL_LEVEL, "classes": CLASS_LEVEL},
            "p_value": self.p_value,
            "worse": bool(verdict.worse),
            "detectable": self.detectable,
            "classes": {
                label: {
                    **counts,
                    "p_value": float(verdict.class_p_values[i]),
                    "checked": bool(verdict.checked[i]),
                    "worse": bool(verdict.worse_classes[i]),
                    "detectable": detectable_drop(counts["photos"], CLASS_LEVEL, self.tolerance),
                }
                for i, (label, counts) in enumerate(self.classes.items())
            },
            "reasons": self.reasons(),
            "notes": self.notes(),
        }

    def _misses_large_drop(self, label: str) -> bool:
        drop = detectable_drop(self.classes[label]["photos"], CLASS_LEVEL, self.tolerance)
        return drop is None or drop > LARGE_CLASS_DROP

    def _most_lost(self) -> str:
        """The classes that lost the most photos, with the number lost."""
        lost = {label: counts["champion"] - counts["challenger"] for label, counts in self.classes.items()}
        worst = sorted((label for label in lost if lost[label] > 0), key=lambda label: -lost[label])
        return _some([f"{label!r} ({lost[label]})" for label in worst], quoted=True)


def _fell(counts: Mapping[str, int], p_value: float) -> str:
    """Describe a drop, given the counts of a class or of all photos."""
    before, after = (counts[side] / counts["photos"] for side in ("champion", "challenger"))
    return (
        f"fell from {before:.1%} to {after:.1%}: of {counts['photos']} test photos {counts['only_champion']} got worse,"
        f" {counts['only_challenger']} got better (p = {p_value:.2g})"
    )


def _some(labels: Sequence[str], quoted: bool = False) -> str:
    """List the first few labels; ``quoted`` means that they are quoted already."""
    shown = labels if quoted else [repr(label) for label in labels]
    return ", ".join(shown[:_MAX_NAMED]) + (", …" if len(shown) > _MAX_NAMED else "")


def tally(
    champion: str,
    labels: Sequence[str],
    right: NDArray[np.bool_],
    gone: tuple[str, ...],
    tolerance: float,
    known: Sequence[str] = (),
) -> Comparison:
    """Count the correct predictions of two versions by label.

    Args:
        champion: id of the channel's version.
        labels: labels of the photos, ``[N]``.
        right: whether the champion's and the challenger's predictions are correct, ``[2, N]``.
        gone: labels that only the champion knows.
        tolerance: largest drop in recall that is never a reason, 0 to 1.
        known: labels that both know, also those without a test photo.
    """
    names, (theirs, ours) = np.array(labels, object), right
    counts = {
        "photos": np.ones_like(theirs),
        "champion": theirs,
        "challenger": ours,
        "only_champion": theirs & ~ours,
        "only_challenger": ours & ~theirs,
    }
    classes = {
        label: {name: int(flags[names == label].sum()) for name, flags in counts.items()}
        for label in sorted({*labels, *known})
    }
    return Comparison(champion, classes, gone, tolerance)
