"""Names of classes: invisible characters, names that look alike, and replacing names by others."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from train_job.data.labels.formats import open_label_file
from train_job.data.labels.label_rows import LabelColumns, read_label_rows
from train_job.data.labels.match_photos import UNPRINTABLE, to_nfc
from train_job.progress import Reporter
from transferlite.errors import InputError

_JOINERS = "\u200c\u200d"
_INVISIBLE_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\uffa0"
_LAST_LATIN = "\u024f"
_SEPARATORS = re.compile(r"[\W_]+")
_RARE = 10
"""Times that the more frequent of two names must outnumber the other before one different letter counts as a typo."""


@lru_cache(maxsize=2**14)
def label_problem(label: str) -> str:
    """Return why no class may have this label; empty if it may."""
    if UNPRINTABLE.search(label):
        return f"the label {label!r} has a character that cannot be printed"
    if hidden := "".join(_invisible_characters(label)):
        return f"the label {label!a} has an invisible character ({', '.join(f'U+{ord(c):04X}' for c in hidden)})"
    return ""


def _invisible_characters(label: str) -> Iterator[str]:
    """Yield the invisible characters, except those that shape the letters of some scripts and emoji beside them."""
    if label.isascii():
        return
    for index, character in enumerate(label):
        is_format = unicodedata.category(character) == "Cf" or re.match(f"[{_INVISIBLE_LETTERS}]", character)
        is_selector = "\ufe00" <= character <= "\ufe0f"
        before, after = label[index - 1 : index], label[index + 1 : index + 2]
        joins = character in _JOINERS and before > _LAST_LATIN and after > _LAST_LATIN
        is_tag = "\U000e0020" <= character <= "\U000e007f" and before > _LAST_LATIN
        if (is_format and not joins and not is_tag) or (is_selector and not (before > _LAST_LATIN or before in "#*©®")):
            yield character


# -- names that look alike -------------------------------------------------------------------------------------------


class SimilarLabels(NamedTuple):
    """Two labels that may be meant as one class; ``label`` is the rarer one."""

    label: str
    photos: int
    other: str
    other_photos: int

    def __str__(self) -> str:
        return f"{self.label!r} ({self.photos}) looks like {self.other!r} ({self.other_photos})"


def similar_labels(counts: Mapping[str, int]) -> list[SimilarLabels]:
    """Find pairs of labels that differ only in case, spaces, accents, singular and plural, or by a typo.

    Two letters in the wrong order are a typo; another letter, one more or one less is a typo of a rare label only.

    Args:
        counts: photos by label.
    """
    pairs = {*_pairs_with_common_key(counts, _folded_keys), *_pairs_with_common_key(counts, _plural_keys)}
    pairs |= {pair for pair in _pairs_with_common_key(counts, _typo_keys) if _is_typo(*pair, counts)}
    found = (SimilarLabels(rare, counts[rare], common, counts[common]) for rare, common in pairs)
    return sorted(found, key=lambda pair: (-pair.other_photos, pair))


def _pairs_with_common_key(
    counts: Mapping[str, int], keys_of: Callable[[str], Iterable[str]]
) -> Iterator[tuple[str, str]]:
    """Yield each pair of labels that share a key, the rarer label first."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (counts[label], label)):
        for key in set(keys_of(label)):
            by_key[key].append(label)
    for labels in by_key.values():
        yield from combinations(labels, 2)


def _fold(label: str) -> str:
    """Remove what is hard to see: case, accents, spaces, punctuation and the width of letters."""
    decomposed = unicodedata.normalize("NFKD", label).casefold()
    letters = _SEPARATORS.sub("", "".join(c for c in decomposed if not unicodedata.combining(c)))
    return letters or label


def _folded_keys(label: str) -> list[str]:
    return [_fold(label)]


def _plural_keys(label: str) -> list[str]:
    folded = _fold(label)
    singulars = [folded.removesuffix("s"), folded.removesuffix("es")]
    singulars += [folded.removesuffix("ies") + "y"] if folded.endswith("ies") else []
    return [folded, *(singular for singular in singulars if len(singular) > 2)]


def _typo_keys(label: str) -> list[str]:
    """The folded label, and without each of its letters: labels that share one differ by an edit or two."""
    folded = _fold(label)
    if len(folded) < 3 or len(folded) > 40:
        return []
    return [folded, *(folded[:index] + folded[index + 1 :] for index in range(len(folded)))]


def _is_typo(first: str, second: str, counts: Mapping[str, int]) -> bool:
    a, b = sorted((_fold(first), _fold(second)), key=len)
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    end = len(a) - next((i for i, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), len(a))
    if re.search(r"\d", a[start:] + b[start:]) and re.sub(r"\d", "", a) == re.sub(r"\d", "", b):
        return False  # numbered classes
    if len(a) == len(b) and end - start == 2 and a[start:end] == b[start:end][::-1]:
        return True
    rare, common = sorted((counts[first], counts[second]))
    return max(end - start, 0) <= 1 and len(b) - len(a) <= 1 and len(b) > 3 and rare * _RARE <= common


# -- replacing names -------------------------------------------------------------------------------------------------


@dataclass
class LabelMerge:
    """Labels to replace by others, and the photos or rows in which each was found."""

    new_labels: Mapping[str, str] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    @classmethod
    def parse(cls, text: str | None) -> "LabelMerge":
        """Parse ``--merge-labels``: ``Cat=cat,dgo=dog``, or the location of a label file whose two columns are both.

        Raises:
            InputError: a pair is incomplete, contradicts another, or replaces a label that another pair replaces.
        """
        if not text:
            return cls()
        where = f"--merge-labels {text}"
        is_list = "=" in text and "://" not in text
        pairs = (
            [tuple(part.split("=", 1)) for part in text.split(",") if part.strip()] if is_list else _read_pairs(text)
        )
        merge: dict[str, str] = {}
        for pair in pairs:
            label, new = (to_nfc(name.strip()) for name in (*pair, "")[:2])
            if not label or not new:
                raise InputError(f"has no old or no new label in {'='.join(pair)!r}", where=where, hint="write Cat=cat")
            if merge.setdefault(label, new) != new:
                raise InputError(f"replaces {label!r} by {merge[label]!r} and by {new!r}", where=where)
            if problem := label_problem(new):
                raise InputError(problem, where=where)
        if chain := next((label for label, new in merge.items() if merge.get(new, new) != new), None):
            raise InputError(f"replaces {chain!r} by {merge[chain]!r}, which it replaces too", where=where)
        return cls(merge)

    def replace(self, label: str, photos: int = 1) -> str:
        """Return the label that replaces this one, or the label itself; ``photos`` have it."""
        new = self.new_labels.get(label)
        if new is None:
            return label
        self.found[label] += photos
        return new

    def report(self, report: Reporter) -> None:
        """Print how often each label was replaced, and warn of those that no photo has."""
        for label, new in self.new_labels.items():
            if self.found[label]:
                report.line(f"merged {label!r} ({self.found[label]}) into {new!r}")
            else:
                report.warning(f"--merge-labels replaces {label!r}, which no photo has")


def _read_pairs(location: str) -> list[tuple[str, ...]]:
    file = open_label_file(location)
    if len(file.columns) < 2:
        raise InputError("has no two columns: old and new label", where=location)
    pairs: list[tuple[str, ...]] = []
    for table in read_label_rows(file, LabelColumns(file.columns[0], file.columns[1])):
        for row, problem in table["problem"][table["problem"] != ""].items():
            raise InputError(f"row {row} {problem}", where=location)
        pairs += zip(table["name"], table["label"], strict=True)
    return [pair for pair in pairs if any(pair)]
