import csv
from pathlib import Path

import numpy as np

from benchmarks.photos import Kind, decoded, seed_photos, write_folders
from benchmarks.sides.s3_server import put_photos, running_s3
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.storage.s3_boto3 import S3Store


def test_generated_photos_are_all_different_and_the_same_every_time() -> None:
    kind = Kind()
    photos = [kind.jpeg(number) for number in range(50)]
    assert len(set(photos)) == 50
    assert photos == [kind.jpeg(number) for number in range(50)]


def test_the_class_of_a_generated_photo_shows_in_its_mean_colour_and_texture() -> None:
    kind = Kind(classes=4)
    pictures = [np.asarray(kind.picture(number), np.float32) for number in range(200)]
    seen = np.stack([[*p.mean((0, 1)), np.abs(np.diff(p, axis=0)).mean()] for p in pictures])
    seen = (seen - seen.mean(0)) / seen.std(0)
    labels = np.arange(200) % 4
    centres = np.stack([seen[:100][labels[:100] == label].mean(0) for label in range(4)])
    nearest = np.linalg.norm(seen[100:, None] - centres, axis=2).argmin(1)
    assert (nearest == labels[100:]).mean() > 0.95


def test_photos_are_written_into_a_folder_per_class(tmp_path: Path) -> None:
    write_folders(tmp_path, 7, Kind(classes=3))
    assert [len(list((tmp_path / f"class{label}").iterdir())) for label in range(3)] == [3, 2, 2]


def test_a_generated_seed_has_a_line_in_its_csv_for_each_photo(tmp_path: Path) -> None:
    folder = seed_photos(tmp_path, 4)
    with (folder / "label-train.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["File Name"]: line["Label"] for line in lines} == {
        path.name: path.name[:3] for path in (folder / "train_img").iterdir()
    }
    assert decoded(folder / "train_img", 5, 32).shape == (5, 32, 32, 3)


def test_photos_put_on_the_local_server_are_read_from_it(tmp_path: Path) -> None:
    kind = Kind()
    with running_s3(tmp_path) as server:
        keys = put_photos(server.bucket("photos"), 3, kind)
        blobs = [S3Store("photos").get(key) for key in keys]
    assert [blob.data for blob in blobs] == [kind.jpeg(number) for number in range(3)]
    assert decode(blobs[0].data, InputSpec(32, 32)).shape == (32, 32, 3)
