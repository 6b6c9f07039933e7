import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.train_job.data.test_dataset import codes, csv, fill, labelled
from train_job.data.labels.read_labels import read_dataset, read_job_dataset
from train_job.options import TrainOptions
from train_job.progress import Reporter
from transferlite.cli.main import run
from transferlite.errors import InputError


def options(images: str, **settings: Any) -> TrainOptions:
    return TrainOptions(images=images, registry="", **settings)


def two_classes(root: Path, *more: str) -> str:
    return fill(root, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg", *more)


# -- what is printed before the training -------------------------------------------------------------------------------


def test_classes_are_printed_with_their_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_job_dataset(options(two_classes(tmp_path)), Reporter())
    assert "classes: 'cat' 2, 'dog' 1\n" in capsys.readouterr().out


def test_splits_and_similar_labels_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (f"{split}/{label}/1.jpg" for split in ("train", "val", "test") for label in ("cat", "Cat", "dog"))
    read_job_dataset(options(fill(tmp_path, *names)), Reporter())
    captured = capsys.readouterr()
    assert "the folders are splits, with a folder per class: test/ for test, train/ for train" in captured.out
    assert "'Cat' (3) looks like 'cat' (3); pass --merge-labels 'Cat'='cat' if they are one class" in captured.err


def test_merged_labels_are_printed_with_their_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_classes(tmp_path, "Cat/3.jpg")
    dataset = read_job_dataset(options(root, merge_labels="Cat=cat,Dgo=dog"), Reporter())
    assert dataset.labels == ("cat", "dog")
    captured = capsys.readouterr()
    assert "merged 'Cat' (1) into 'cat'" in captured.out
    assert "--merge-labels replaces 'Dgo', which no photo has" in captured.err


def test_rows_that_agree_once_merged_are_no_conflict(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg")
    labels = csv(tmp_path, "a.jpg,Cat", "a.jpg,cat", "b.jpg,dog")
    dataset = read_job_dataset(options(images, labels=labels, merge_labels="Cat=cat"), Reporter())
    assert codes(dataset) == [(3, "repeated-row")]


def test_rows_that_are_left_out_are_reported_although_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = fill(tmp_path / "photos", *(f"{number}.jpg" for number in range(20)))
    rows = [f"{number}.jpg,cat" if number < 10 else f"{number},dog" for number in range(20)]
    words = ["check", "--images", images, "--labels", csv(tmp_path, *rows), "--out", str(tmp_path)]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "rejected 10 (10 missing), all in quarantine.csv: " in error
    assert "there is no such file; did you mean '10.jpg'?" in error
    assert "found 1 class ('cat')" in error
    assert len((tmp_path / "quarantine.csv").read_text().splitlines()) >= 11


def test_a_check_without_a_usable_row_lists_all_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = fill(tmp_path / "photos", "a.jpg")
    words = ["check", "--images", images, "--labels", csv(tmp_path, "x.jpg,cat", "y.jpg,dog"), "--out", str(tmp_path)]
    assert run(words) == 2
    assert "no labelled photo was found" in capsys.readouterr().err
    assert len((tmp_path / "quarantine.csv").read_text().splitlines()) == 3


# -- files skipped by name ---------------------------------------------------------------------------------------------


def test_files_that_are_no_photos_are_counted_by_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = two_classes(tmp_path, "README.txt", "LICENSE", ".DS_Store", "cat/._1.jpg", "cat/a.MP4")
    dataset = read_job_dataset(options(root), Reporter())
    assert dataset.skipped == {
        "not a photo extension (.txt)": 1,
        "no extension": 1,
        "hidden, or created by a file manager": 2,
    }
    assert [(photo.code, photo.reason) for photo in dataset.rejected] == [
        ("not-photo-name", "not a photo extension (.mp4)")
    ]
    assert "skipped: 2 hidden, or created by a file manager, 1 no extension, 1 not a photo" in capsys.readouterr().out


@pytest.mark.parametrize("extension", [".CR2", ".nef", ".dng", ".svg", ".eps", ".dcm", ".exr", ".psb"])
def test_files_that_look_like_photos_count_towards_fail_over(tmp_path: Path, extension: str) -> None:
    dataset = read_dataset(two_classes(tmp_path, f"cat/4{extension}"))
    assert [photo.code for photo in dataset.rejected] == ["unsupported-format"]
    assert extension.lower() in dataset.rejected[0].reason
    with pytest.raises(InputError, match="1 of 4 photos cannot be used"):
        dataset.check_rejected_share(0.2)


@pytest.mark.parametrize("name", ["cat/4.txt", "cat/4.mp4", "cat/4", "4.svg.bak"])
def test_other_files_do_not_count_towards_fail_over(tmp_path: Path, name: str) -> None:
    read_dataset(two_classes(tmp_path, name)).check_rejected_share(0)


def test_photos_of_classes_that_are_not_chosen_are_counted(tmp_path: Path) -> None:
    dataset = read_dataset(two_classes(tmp_path, "cow/1.jpg"), classes=("cat", "dog"))
    assert dataset.skipped == {"class not in --classes": 1}


# -- labels that only the test photos have -----------------------------------------------------------------------------


def test_labels_that_no_training_photo_has_are_rejected(tmp_path: Path) -> None:
    tests = fill(tmp_path / "tests", "cat/9.jpg", "dog/9.jpg", "horse/8.jpg", "horse/9.jpg", "Cat/7.jpg")
    settings = options(two_classes(tmp_path / "photos"), test_images=tests)
    rejected = read_job_dataset(settings, Reporter()).rejected
    assert [(Path(photo.uri).parent.name, photo.code) for photo in rejected] == [
        ("Cat", "unseen-label"),
        ("horse", "unseen-label"),
        ("horse", "unseen-label"),
    ]
    assert rejected[1].reason == "no training photo has the label 'horse'"


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_class_in_the_split_column_without_training_photos_is_rejected(tmp_path: Path, split: str) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    rows = ["a.jpg,cat,train", "b.jpg,dog,train", f"c.jpg,cow,{split}", "d.jpg,cat,test"]
    dataset = read_dataset(images, csv(tmp_path, *rows, header="File Name,Label,Split"))
    assert dataset.labels == ("cat", "dog")
    assert codes(dataset) == [(4, "unseen-label")]


def test_a_class_in_the_test_folder_alone_is_rejected(tmp_path: Path) -> None:
    names = (f"{split}/{label}/1.jpg" for split in ("train", "test") for label in ("cat", "dog"))
    dataset = read_dataset(fill(tmp_path, *names, "test/cow/1.jpg"))
    assert dataset.labels == ("cat", "dog")
    assert [photo.code for photo in dataset.rejected] == ["unseen-label"]


def test_other_classes_of_the_test_photos_are_skipped_if_the_user_chose_classes(tmp_path: Path) -> None:
    tests = fill(tmp_path / "tests", "cat/9.jpg", "dog/9.jpg", "horse/8.jpg")
    settings = options(two_classes(tmp_path / "photos"), test_images=tests, classes=("cat", "dog"))
    dataset = read_job_dataset(settings, Reporter())
    assert (dataset.rejected, dataset.skipped) == ((), {"class not in --classes": 1})


def test_a_class_named_unknown_is_refused_with_precision(tmp_path: Path) -> None:
    root = two_classes(tmp_path, "unknown/1.jpg")
    assert "unknown" in read_job_dataset(options(root), Reporter()).labels
    with pytest.raises(InputError, match=r"a class is named 'unknown'.*; rename it: --merge-labels unknown=other"):
        read_job_dataset(options(root, precision=0.95), Reporter())
    with pytest.raises(InputError, match="which --reject-unlike predicts"):
        read_job_dataset(options(root, reject_unlike=0.02), Reporter())
    renamed = read_job_dataset(options(root, precision=0.95, merge_labels="unknown=other"), Reporter())
    assert renamed.labels == ("cat", "dog", "other")


# -- exports of other programs -----------------------------------------------------------------------------------------


def write_lines(path: Path, *objects: object) -> str:
    path.write_text("\n".join(map(json.dumps, objects)))
    return str(path)


@pytest.mark.parametrize(
    "unnamed",
    [
        {"pets": 0, "pets-metadata": {"confidence": 0.5}},
        {"pets": 0},
        {"pets": 0, "pets-metadata": None},
        {"pets": 1.0, "pets-metadata": {"class-name": None}},
    ],
)
def test_a_number_without_a_class_name_is_no_class(tmp_path: Path, unnamed: dict[str, Any]) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    named = [
        {"source-ref": f"{name}.jpg", "pets": n, "pets-metadata": {"class-name": label}}
        for n, (name, label) in enumerate([("a", "cat"), ("b", "dog")])
    ]
    labels = write_lines(tmp_path / "x.manifest", *named, {"source-ref": "c.jpg", **unnamed})
    dataset = read_dataset(images, labels)
    assert dataset.labels == ("cat", "dog")
    (rejected,) = dataset.rejected
    assert (rejected.uri, rejected.row, rejected.code) == (f"{images}/c.jpg", 3, "bad-row")
    assert "without a class-name" in rejected.reason


def test_a_manifest_that_names_no_class_has_its_numbers_as_classes(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg")
    lines = [{"source-ref": f"{name}.jpg", "pets": n, "pets-metadata": {}} for n, name in enumerate("ab")]
    assert read_dataset(images, write_lines(tmp_path / "x.manifest", *lines), y_col="pets").labels == ("0", "1")


@pytest.mark.parametrize(
    "rows",
    [
        ["filename, cat, dog, cow", "a.jpg, 1, 0, 0", "b.jpg, 0, 1, 0", "c.jpg, 1, 1, 0", "d.jpg, 0, 0, 0"],
        ["id,file,cat,dog", "7,a.jpg,True,False", "8,b.jpg,False,True", "9,c.jpg,True,True", "9,d.jpg,False,"],
        ["split,file,cat,dog", "train,a.jpg,1.0,0.0", ",b.jpg,0.0,1.0", ",c.jpg,1,1", "test,d.jpg,,"],
        ["cat,dog,name of it", "1,0,a.jpg", "0,1,b.jpg", "1,1,c.jpg", "0,0,d.jpg"],
    ],
)
def test_one_column_per_class_is_read(tmp_path: Path, rows: Sequence[str]) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    dataset = read_dataset(images, csv(tmp_path, *rows[1:], header=rows[0]))
    assert labelled(dataset) == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert codes(dataset) == [(4, "bad-row"), (5, "no-label")]
    assert dataset.rejected[0].reason == "has 2 labels where one is needed (cat, dog)"
    assert "has one column per class: 'cat', 'dog'" in dataset.remarks[0]


def test_another_value_in_a_column_of_a_class_is_rejected(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    rows = [*["a.jpg,1,0", "b.jpg,0,1"] * 600, "c.jpg,1,0.5"]
    dataset = read_dataset(images, csv(tmp_path, *rows, header="file,cat,dog"))
    assert codes(dataset)[-1] == (1202, "bad-row")


def task(image: str, *choices: Sequence[str], **annotation: Any) -> dict[str, Any]:
    results = ([{"type": "choices", "value": {"choices": list(chosen)}}] for chosen in choices)
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": result, **annotation} for result in results]}


@pytest.mark.parametrize(
    "prefix", ["", "/data/upload/1/", "/data/upload/12/0a1b2c3d-", "/data/local-files/?d=mnt/photos/", "data/upload/3/"]
)
def test_an_export_of_label_studio_is_read(tmp_path: Path, prefix: str) -> None:
    names = ["a b.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    images = fill(tmp_path / "photos", *names)
    tasks = [
        task(f"{prefix}a b.jpg", ["cat"]),
        task(f"{prefix}b.jpg", ["dog"], ["dog"]),
        task(f"{prefix}c.jpg", ["cat", "dog"]),
        task(f"{prefix}d.jpg", ["cat"], was_cancelled=True),
        task(f"{prefix}e.jpg", ["cat"], ["dog"]),
    ]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    dataset = read_dataset(images, str(tmp_path / "project.json"))
    assert labelled(dataset) == [("a b.jpg", "cat"), ("b.jpg", "dog")]
    assert codes(dataset) == [(3, "bad-row"), (4, "no-label"), (5, "bad-row")]


def test_the_small_exports_of_label_studio_are_read(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", "a.jpg", "b.jpg")
    rows = [{"image": f"/data/upload/1/0a1b2c3d-{name}.jpg", "id": 1, "choice": label} for name, label in ("ax", "by")]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    assert labelled(read_dataset(images, str(tmp_path / "min.json"))) == [("a.jpg", "x"), ("b.jpg", "y")]
    text = ["/data/upload/1/a.jpg,1,x", "/data/upload/1/b.jpg,2,y"]
    assert read_dataset(images, csv(tmp_path, *text, header="image,id,choice")).labels == ("x", "y")


def test_a_file_of_boxes_is_named_with_the_way_to_convert_it(tmp_path: Path) -> None:
    coco = {"images": [{"id": 1}], "annotations": [], "categories": []}
    (tmp_path / "coco.json").write_text(json.dumps(coco, indent=1))
    with pytest.raises(InputError, match="convert COCO to a CSV with the columns file and label"):
        read_dataset(fill(tmp_path / "photos", "a.jpg"), str(tmp_path / "coco.json"))


# -- names that match several photos -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys", "alternatives"),
    [
        ("1.jpg", ["cat/1.jpg", "dog/1.jpg"], "'cat/1.jpg' or 'dog/1.jpg'"),
        ("a", ["a.jpg", "a.png", "x/a.gif"], "'a.jpg', 'a.png' or 'x/a.gif'"),
        ("A.JPG", ["a.jpg", "a.JPG"], "'a.JPG' or 'a.jpg'"),
        ("\u1ec7.jpg", ["e\u0323\u0302.jpg", "\u1eb9\u0302.jpg"], r"'e\u0323\u0302.jpg' or '\u1eb9\u0302.jpg'"),
    ],
)
def test_a_name_that_may_mean_several_photos_is_reported_with_all(
    tmp_path: Path, name: str, keys: list[str], alternatives: str
) -> None:
    images = fill(tmp_path / "photos", *keys, "yes.jpg", "no.jpg")
    dataset = read_dataset(images, csv(tmp_path, "yes.jpg,yes", "no.jpg,no", f"{name},yes"))
    assert dataset.rejected[0].reason.startswith(f"there is no such file; did you mean {alternatives}? (row 4 of")


def test_very_many_alternatives_are_counted(tmp_path: Path) -> None:
    images = fill(tmp_path / "photos", *(f"{number:02}/1.jpg" for number in range(30)), "yes.jpg", "no.jpg")
    dataset = read_dataset(images, csv(tmp_path, "yes.jpg,yes", "no.jpg,no", "1.jpg,yes"))
    assert "'09/1.jpg' or 20 more?" in dataset.rejected[0].reason
