import json
from pathlib import Path

import pytest

from tests.train_job.data.test_dataset import csv, fill
from train_job.data.labels.class_names import LabelMerge, label_problem, similar_labels
from train_job.data.labels.read_labels import read_dataset
from transferlite.errors import InputError


@pytest.mark.parametrize(
    ("rare", "common"),
    [
        ("Cat", "cat"),
        ("hot  dog", "hot dog"),
        ("hot\u00a0dog", "hot dog"),
        ("hot_dog", "hot dog"),
        ("dgo", "dog"),
        ("cats", "cat"),
        ("dishes", "dish"),
        ("Puppies", "puppy"),
        ("cafe", "café"),
        ("\uff43\uff41\uff54", "cat"),
        ("horze", "horse"),
        ("hors", "horse"),
        ("Horsee", "horse"),
    ],
)
def test_labels_that_look_alike_are_found_with_their_counts(rare: str, common: str) -> None:
    (pair,) = similar_labels({common: 97, "elephant": 50, rare: 3})
    assert str(pair) == f"{rare!r} (3) looks like {common!r} (97)"


@pytest.mark.parametrize(
    "labels",
    [("cat", "bat"), ("class1", "class2"), ("2019", "2020"), ("a", "b"), ("01", "10"), ("cat", "dog"), ("us", "u")],
)
def test_other_labels_are_no_look_alikes(labels: tuple[str, str]) -> None:
    assert similar_labels({labels[0]: 97, labels[1]: 3}) == []


def test_one_other_letter_is_a_typo_of_a_rare_label_only() -> None:
    assert similar_labels({"horse": 50, "house": 40}) == []
    assert len(similar_labels({"horse": 50, "house": 2})) == 1


def test_many_labels_are_compared_quickly() -> None:
    assert similar_labels({f"species {number * 7919:05x}": 10 for number in range(5000)}) is not None


@pytest.mark.parametrize(
    "label", ["cat\u200b", "\ufeffcat", "c\u00adat", "cat\u200d", "cat\u200e", "cat\ufe0f", "\u3164", "ca\u2060t"]
)
def test_a_label_with_an_invisible_character_is_rejected(label: str, tmp_path: Path) -> None:
    assert "invisible character (U+" in label_problem(label)
    photos = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    dataset = read_dataset(photos, csv(tmp_path, "a.jpg,cat", f"b.jpg,{label}", "c.jpg,dog"))
    assert [(photo.row, photo.code) for photo in dataset.rejected] == [(3, "bad-label")]
    folders = fill(tmp_path / "folders", "cat/1.jpg", "dog/2.jpg", f"{label}/3.jpg")
    assert [photo.code for photo in read_dataset(folders).rejected] == ["bad-label"]


@pytest.mark.parametrize(
    "label",
    [
        "cat",
        "Käfer",
        "👨\u200d👩",
        "❤\ufe0f",
        "\u0646\u0645\u06cc\u200c\u062e\u0648",
        "\u0915\u094d\u200d\u0937",
        "猫",
        "hot dog",
    ],
)
def test_characters_that_shape_their_neighbours_are_part_of_a_label(label: str) -> None:
    assert label_problem(label) == ""


def test_labels_are_merged_only_as_the_user_says(tmp_path: Path) -> None:
    merge = LabelMerge.parse("Cat=cat, dgo = dog")
    assert [merge.replace(label) for label in ("Cat", "dgo", "CAT", "cat")] == ["cat", "dog", "CAT", "cat"]
    (tmp_path / "merge.csv").write_text('old,new\n"a, b",ab\nCat,cat\n\n')
    assert LabelMerge.parse(str(tmp_path / "merge.csv")).new_labels == {"a, b": "ab", "Cat": "cat"}
    (tmp_path / "merge.jsonl").write_text(json.dumps({"old": "x=y", "new": "z"}))
    assert LabelMerge.parse(str(tmp_path / "merge.jsonl")).new_labels == {"x=y": "z"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Cat=", "has no old or no new label"),
        ("=cat", "has no old or no new label"),
        ("a=b,c", "has no old or no new label in 'c'"),
        ("a=b,a=c", "replaces 'a' by 'b' and by 'c'"),
        ("a=b,b=c", "replaces 'a' by 'b', which it replaces too"),
        ("a=b\u200b", "invisible character"),
    ],
)
def test_unclear_merges_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelMerge.parse(text)
