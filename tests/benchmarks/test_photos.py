import csv
from pathlib import Path

import numpy as np

from benchmarks.helpers.photos import PhotoStyle, decoded_photos, seed_photos, write_folders
from benchmarks.helpers.s3_server import put_photos, running_s3
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.storage.s3_boto3 import S3Store


def test_generated_photos_are_all_different_and_reproducible() -> None:
    style = PhotoStyle()
    photos = [style.jpeg(number) for number in range(50)]
    assert len(set(photos)) == 50
    assert photos == [style.jpeg(number) for number in range(50)]


def test_the_class_of_a_generated_photo_shows_in_its_colour_and_texture() -> None:
    style = PhotoStyle(classes=4)
    images = [np.asarray(style.image(number), np.float32) for number in range(200)]
    statistics = np.stack([[*p.mean((0, 1)), np.abs(np.diff(p, axis=0)).mean()] for p in images])
    statistics = (statistics - statistics.mean(0)) / statistics.std(0)
    labels = np.arange(200) % 4
    centres = np.stack([statistics[:100][labels[:100] == label].mean(0) for label in range(4)])
    nearest = np.linalg.norm(statistics[100:, None] - centres, axis=2).argmin(1)
    assert (nearest == labels[100:]).mean() > 0.95


def test_photos_are_written_into_a_folder_per_class(tmp_path: Path) -> None:
    write_folders(tmp_path, 7, PhotoStyle(classes=3))
    assert [len(list((tmp_path / f"class{label}").iterdir())) for label in range(3)] == [3, 2, 2]


def test_generated_seed_photos_have_a_csv_line_each(tmp_path: Path) -> None:
    folder = seed_photos(tmp_path, 4)
    with (folder / "label-train.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["File Name"]: line["Label"] for line in lines} == {
        path.name: path.name[:3] for path in (folder / "train_img").iterdir()
    }
    assert decoded_photos(folder / "train_img", 5, 32).shape == (5, 32, 32, 3)


def test_uploaded_photos_are_read_back_from_the_s3_server(tmp_path: Path) -> None:
    style = PhotoStyle()
    with running_s3(tmp_path) as server:
        keys = put_photos(server.bucket("photos"), 3, style)
        blobs = [S3Store("photos").get(key) for key in keys]
    assert [blob.data for blob in blobs] == [style.jpeg(number) for number in range(3)]
    assert decode(blobs[0].data, InputSpec(32, 32)).shape == (32, 32, 3)
