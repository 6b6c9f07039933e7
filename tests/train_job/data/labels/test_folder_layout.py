from pathlib import Path

import pytest

from tests.train_job.data.test_dataset import fill
from train_job.data.example import Split
from train_job.data.labels.read_labels import read_dataset, read_photos
from transferlite.errors import InputError

TRAIN, VALIDATION, TEST = Split


def splits_of(root: str) -> dict[str, tuple[str, Split | None]]:
    dataset = read_dataset(root)
    return {example.image.removeprefix(f"{root}/"): (example.label, example.split) for example in dataset.examples}


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "valid", "TEST"),
        ("TRAIN", "Validation", "testing"),
        ("train", "dev", "test"),
    ],
)
def test_split_folders_give_splits_and_the_folders_in_them_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = fill(tmp_path, *(f"{name}/{label}/1.jpg" for name in names for label in ("cat", "dog")), "README.txt")
    found = splits_of(root)
    assert len(found) == 6
    for name, split in zip(names, Split, strict=True):
        assert found[f"{name}/cat/1.jpg"] == ("cat", split)
        assert found[f"{name}/dog/1.jpg"] == ("dog", split)
    (remark,) = read_dataset(root).remarks
    assert all(name in remark for name in names)


def test_splits_within_class_folders_or_an_outer_folder_are_splits(tmp_path: Path) -> None:
    inner = fill(
        tmp_path / "a", *(f"{label}/{split}/1.jpg" for label in ("cat", "dog") for split in ("train", "val", "test"))
    )
    assert splits_of(inner)["dog/val/1.jpg"] == ("dog", VALIDATION)
    outer = fill(
        tmp_path / "b",
        *(f"data/{split}/{label}/1.jpg" for label in ("cat", "dog") for split in ("train", "val", "test")),
    )
    assert splits_of(outer)["data/test/cat/1.jpg"] == ("cat", TEST)


def test_other_files_beside_split_folders_are_skipped(tmp_path: Path) -> None:
    names = (f"{name}/{label}/1.jpg" for name in ("train", "test") for label in ("cat", "dog"))
    dataset = read_dataset(fill(tmp_path, *names, "cat/notes.txt", "cat/1.nef", "annotations/train/all.xml"))
    assert dataset.skipped == {"not a photo extension (.txt)": 1, "not a photo extension (.xml)": 1}
    assert [photo.code for photo in dataset.rejected] == ["unsupported-format"]


@pytest.mark.parametrize(("other", "split"), [("val", VALIDATION), ("test", TEST)])
def test_a_missing_split_is_taken_out_of_the_training_photos(tmp_path: Path, other: str, split: Split) -> None:
    root = fill(tmp_path, *(f"{name}/{label}/1.jpg" for name in ("train", other) for label in ("cat", "dog")))
    assert splits_of(root) == {
        f"{name}/{label}/1.jpg": (label, chosen)
        for name, chosen in (("train", None), (other, split))
        for label in ("cat", "dog")
    }
    assert "taken out of the training photos" in read_dataset(root).remarks[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train/cat/1.jpg", "test/cat/1.jpg", "extra/dog/1.jpg"],
            r"look like splits, beside 'extra'; --images .*/train --test-images .*/test if they are splits,"
            " --classes extra,test,train if all",
        ),
        (
            ["train/1.jpg", "test/2.jpg"],
            r"'test', 'train', which look like splits and hold no class folders; pass their labels with --labels,"
            " or --classes test,train",
        ),
        (
            ["train/1.jpg", "train/_classes.csv", "valid/2.jpg", "test/2.jpg"],
            r"; --images .*/train --labels .*/train/_classes.csv --test-images .*/test"
            " --test-labels .*/test/_classes.csv",
        ),
        (["val/cat/1.jpg", "test/dog/2.jpg"], "no training photos"),
    ],
)
def test_ambiguous_split_folders_stop_with_the_commands_to_choose_from(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(fill(tmp_path, *names))


def test_classes_that_are_named_like_splits_are_classes_if_the_user_says_so(tmp_path: Path) -> None:
    root = fill(tmp_path, "train/1.jpg", "test/2.jpg")
    assert read_dataset(root, classes=("train", "test")).labels == ("train", "test")
    vehicles = fill(tmp_path / "vehicles", "train/1.jpg", "bus/2.jpg")
    assert read_dataset(vehicles).labels == ("bus", "train")


def test_a_test_set_with_splits_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, *(f"{name}/{label}/1.jpg" for name in ("train", "test") for label in ("cat", "dog")))
    with pytest.raises(InputError, match=r"is not a test set: .*; --test-images .*/test"):
        read_photos(root, None, training_labels=("cat", "dog"))


@pytest.mark.parametrize("outer", ["dataset", "a/b", "train", "archive/PetImages"])
def test_one_outer_folder_is_not_the_class(tmp_path: Path, outer: str) -> None:
    root = fill(tmp_path, f"{outer}/cat/1.jpg", f"{outer}/dog/old/2.jpg", f"{outer}/notes.txt", "README.md")
    dataset = read_dataset(root)
    assert dataset.labels == ("cat", "dog")
    assert dataset.remarks == (f"{outer}/ is the only folder: the folders in it are the classes",)


def test_a_class_is_no_outer_folder(tmp_path: Path) -> None:
    one_class = fill(tmp_path / "a", "cat/old/1.jpg", "cat/new/2.jpg")
    assert read_photos(one_class, None, training_labels=("cat", "dog")).examples[0].label == "cat"
    broken = fill(tmp_path / "b", "cat/old/1.jpg", "cat/new/2.jpg", "dog/3.nef")
    with pytest.raises(InputError, match=r"found 1 class \('cat'\).*3\.nef"):
        read_dataset(broken)
