import json
from dataclasses import replace
from pathlib import Path

import pytest

from train_job.data.dataset import Dataset
from train_job.data.example import Example, RejectedPhoto, Split
from train_job.data.photo_facts import PhotoFacts, PhotoTrait
from train_job.data.photos import Photos
from train_job.data.split_table import SplitTable
from train_job.quality.codes import NOTE_ADVICE, REJECTED_ADVICE, Note, advice_for
from train_job.quality.duplicates import NearDuplicates
from train_job.quality.findings import TINY_CLASS, UNBALANCED_RATIO, count_by_code, find_problems
from train_job.store.facts_index import FactsIndex

TRAIN, VALIDATION, TEST = Split
PLAIN = PhotoFacts("JPEG", 640, 480, PhotoTrait(0), b"")


def photos(label: str, count: int) -> list[Example]:
    return [Example(f"{label}.{n}.jpg", label, n + 2, f"{label}{n}".encode().hex().zfill(64)) for n in range(count)]


CATS, DOGS = photos("cat", 20), photos("dog", 20)
PETS = Dataset(Photos.of([*CATS, *DOGS]), ("cat", "dog"))
SPLITS = SplitTable.of({example.sha256: TRAIN for example in PETS.examples})
FACTS = FactsIndex.of({example.sha256: PLAIN for example in PETS.examples})


def codes(notes: tuple[Note, ...]) -> list[tuple[str, str]]:
    return [(note.code, note.uri) for note in notes]


def test_ordinary_photos_have_no_notes() -> None:
    checked = find_problems(PETS, FACTS, NearDuplicates(), SPLITS)
    assert checked.notes == ()
    assert checked.summary["notes"] == {}


def test_traits_are_noted_and_photos_without_facts_are_not() -> None:
    facts = {
        CATS[0].sha256: replace(PLAIN, traits=PhotoTrait.ANIMATED | PhotoTrait.PALETTE, format="GIF"),
        CATS[1].sha256: replace(PLAIN, traits=PhotoTrait.ROTATED),
        CATS[2].sha256: replace(PLAIN, traits=PhotoTrait.CMYK),
        CATS[3].sha256: replace(PLAIN, traits=PhotoTrait.DEEP, format="PNG"),
    }
    checked = find_problems(PETS, FactsIndex.of(facts), NearDuplicates(), SPLITS)
    assert codes(checked.notes) == [
        ("wrong-extension", "cat.0.jpg"),
        ("animated", "cat.0.jpg"),
        ("palette", "cat.0.jpg"),
        ("exif-rotated", "cat.1.jpg"),
        ("cmyk", "cat.2.jpg"),
        ("wrong-extension", "cat.3.jpg"),
        ("16-bit", "cat.3.jpg"),
    ]
    assert checked.notes[0].row == 2
    assert checked.summary["unknown"] == 36


def test_near_duplicates_name_each_other_and_those_in_two_splits_leak() -> None:
    pairs = ((CATS[0].sha256, CATS[1].sha256), (CATS[0].sha256, CATS[2].sha256), (CATS[3].sha256, DOGS[0].sha256))
    splits = SplitTable.of({**SPLITS, CATS[2].sha256: TEST})
    near = NearDuplicates(pairs, (tuple(example.sha256 for example in CATS[:3]),))
    checked = find_problems(PETS, FACTS, near, splits)
    assert codes(checked.notes) == [
        ("near-duplicate", "cat.1.jpg"),
        ("near-duplicate", "cat.2.jpg"),
        ("leakage", "cat.2.jpg"),
        ("near-duplicate-labels", "cat.3.jpg"),
        ("near-duplicate-labels", "dog.0.jpg"),
    ]
    assert "is in test and looks like cat.0.jpg (row 2) in train" in checked.notes[2].reason
    assert checked.summary["leakage"][0]["image"] == "cat.2.jpg"
    assert checked.summary["near_duplicates"]["groups"] == 1
    assert [photo["image"] for photo in checked.summary["near_duplicates"]["largest"][0]] == [
        "cat.0.jpg",
        "cat.1.jpg",
        "cat.2.jpg",
    ]


def test_small_and_unequal_classes_are_noted() -> None:
    many, few = photos("cat", TINY_CLASS * UNBALANCED_RATIO + 1), photos("dog", TINY_CLASS - 1)
    dataset = Dataset(Photos.of([*many, *few, *photos("cow", TINY_CLASS)]), ("cat", "cow", "dog"))
    checked = find_problems(
        dataset,
        FactsIndex.of({}),
        NearDuplicates(),
        SplitTable.of({example.sha256: TRAIN for example in dataset.examples}),
    )
    assert [(note.code, note.reason.split("'")[1]) for note in checked.notes] == [
        ("unbalanced", "cow"),
        ("tiny-class", "dog"),
        ("unbalanced", "dog"),
    ]


def test_files_without_a_row_are_noted() -> None:
    checked = find_problems(replace(PETS, unlabelled=("new.jpg",)), FACTS, NearDuplicates(), SPLITS)
    assert codes(checked.notes) == [("unlabelled", "new.jpg")]


def test_the_summary_counts_everything() -> None:
    dataset = replace(
        PETS, rejected=(RejectedPhoto("x", 9, "empty", "no bytes"), RejectedPhoto("y", 10, "empty", "no bytes"))
    )
    small = PhotoFacts("PNG", 10, 2000, PhotoTrait(0), b"")
    facts = FactsIndex.of({example.sha256: PLAIN for example in PETS.examples} | {CATS[0].sha256: small})
    splits = SplitTable.of({**SPLITS, CATS[0].sha256: TEST, CATS[1].sha256: VALIDATION})
    summary = json.loads(find_problems(dataset, facts, NearDuplicates(), splits).to_json())
    assert (summary["photos"], summary["left_out"], summary["rejects"]) == (40, 2, {"empty": 2})
    assert summary["classes"]["cat"] == {"photos": 20, "train": 18, "validation": 1, "test": 1}
    assert summary["formats"] == {"JPEG": 39, "PNG": 1}
    assert summary["width"] == {"min": 10, "median": 640, "max": 640}
    assert summary["height"] == {"min": 480, "median": 480, "max": 2000}
    assert summary["unknown"] == 0


def test_no_facts_at_all_give_a_summary_too() -> None:
    assert find_problems(PETS, FactsIndex.of({}), NearDuplicates(), SPLITS).summary["width"] is None


def test_counts_list_the_most_frequent_code_first() -> None:
    notes = [Note("a", None, code, "") for code in ("cmyk", "palette", "cmyk")]
    assert count_by_code(notes) == "2 cmyk, 1 palette"


@pytest.mark.parametrize("code", [*REJECTED_ADVICE, *NOTE_ADVICE])
def test_every_code_is_documented_with_its_advice(code: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "check.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{code}` |")]
    assert advice_for(code) in line
    assert ("left out" in text[: text.index(line)].rsplit("\n## ", 1)[1].splitlines()[0]) is (code in REJECTED_ADVICE)
