"""Cost of retraining with new photos, counted at the S3 server; and extraction in shards."""

import csv
import io
import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import COLOURS, jpeg, write_folders
from tests.train_job.small_backbones import share_built_backbones
from transferlite.cli.main import run
from transferlite.errors import StoppedError
from transferlite.packaging.demo import local_s3
from transferlite.storage.s3_boto3 import s3_client

SMALL: dict[str, Any] = {"backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32, "hidden_units": 8}
PROMOTED = {"epochs": 3, "promote": "always"}


class Requests(logging.Handler):
    """Requests from the S3 server's log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def downloads(self) -> list[str]:
        """Photos downloaded since the last call."""
        matches = [re.search(r"GET /data/photos/(\S+\.jpg)", line) for line in self.lines]
        self.lines.clear()
        return [match[1] for match in matches if match]


@pytest.fixture
def server() -> Iterator[Requests]:
    requests, log = Requests(), logging.getLogger("werkzeug")
    level = log.level
    with local_s3() as url:
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        log.addHandler(requests)
        log.setLevel(logging.INFO)
        s3_client().create_bucket(Bucket="data")
        try:
            yield requests
        finally:
            log.removeHandler(requests)
            log.setLevel(level)


def put(colour: str, number: int) -> None:
    s3_client().put_object(Bucket="data", Key=f"photos/{colour}/{number}.jpg", Body=jpeg(colour, number))


def train(**settings: Any) -> Any:
    from train_job.options import TrainOptions
    from train_job.pipeline import train_job as job
    from train_job.progress import Reporter

    all_settings = SMALL | PROMOTED | settings
    with share_built_backbones():
        return job.train(
            TrainOptions(images="s3://data/photos", registry="s3://data/models", **all_settings), Reporter()
        )


def record(result: Any, name: str = "run.json") -> str:
    key = f"models/models/{result.manifest.model_id}/training/{name}"
    return str(s3_client().get_object(Bucket="data", Key=key)["Body"].read().decode())


def splits(result: Any) -> dict[str, str]:
    return {row["image"]: row["split"] for row in csv.DictReader(io.StringIO(record(result, "dataset.csv")))}


def test_a_retrain_fetches_only_new_photos_and_starts_warm(
    server: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    from export.gate.signatures import SIGNATURE_PHOTOS

    for colour in ("green", "red"):
        for number in range(20):
            put(colour, number)
    first = train(keep_best=True)
    cost = json.loads(record(first))["features"]
    assert (cost["fetched"], cost["forwarded"], cost["reused"]) == (40, 40, 0)
    photos = first.manifest.dataset["photos"]
    export = photos["train"] + photos["test"]  # fetched again for int8 calibration and for the gate
    encoded = min(photos["test"], SIGNATURE_PHOTOS)  # and for the signature that decodes them itself
    assert len(server.downloads()) == 40 + export + encoded

    for number in range(6):
        put("blue", number)
    s3_client().delete_object(Bucket="data", Key="photos/red/19.jpg")
    second = train(warm_start=True)
    cost = json.loads(record(second))["features"]
    assert (cost["fetched"], cost["forwarded"], cost["reused"]) == (6, 6, 39)
    tested = {uri.removeprefix("s3://data/photos/") for uri, split in splits(second).items() if split == "test"}
    known = set(server.downloads()) - {f"blue/{number}.jpg" for number in range(6)}
    assert known <= tested  # a new class makes a new graph, which has to be proven
    assert len(known) <= SIGNATURE_PHOTOS
    put("blue", 6)
    train()
    assert set(server.downloads()) == {"blue/6.jpg"}

    assert first.manifest.labels == ("green", "red")
    assert second.manifest.labels == ("green", "red", "blue")
    assert f"warm start from {first.manifest.model_id}" in capsys.readouterr().out
    before, after = splits(first), splits(second)
    assert before.keys() - after.keys() == {"s3://data/photos/red/19.jpg"}
    kept = before.keys() & after.keys()
    assert {uri: after[uri] for uri in kept} == {uri: before[uri] for uri in kept}


# -- shards -----------------------------------------------------------------------------------------------------------


def rows_in(location: Path) -> dict[str, bytes]:
    """Feature rows of a store with a single space, by the photo's sha256."""
    from train_job.store.feature_store import FeatureStore

    store = FeatureStore.open(str(location))
    (space,) = store.spaces()
    hashes = [digest.hex() for digest in known_digests(store.row_index(space))]
    out = np.zeros((len(hashes), space.width), np.float16)
    assert store.read(space, hashes, out) == []
    return {sha256: row.tobytes() for sha256, row in zip(hashes, out, strict=True)}


def known_digests(known: Any) -> list[bytes]:
    return [bytes(digest).ljust(32, b"\0") for digest in known.digests]


def extract(photos: Path, location: Path, shard: str) -> None:
    from train_job.extraction.shards import Shard, extract_shard
    from train_job.options import TrainOptions
    from train_job.progress import Reporter

    options = TrainOptions(images=str(photos), registry="", features=str(location), **SMALL)
    with share_built_backbones():
        extract_shard(options, Shard.parse(shard), Reporter())


def test_shards_two_of_which_were_killed_and_rerun_equal_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_folders(tmp_path / "photos", 20, tuple(COLOURS))
    extract(photos, tmp_path / "whole", "0/1")
    monkeypatch.setattr("train_job.extraction.result_writer.PART_BYTES", 4 * 576 * 2)
    from train_job.extraction import extract_features as features

    done = [0]
    finish = features._Extraction._finish

    def finish_until_killed(self: Any, *arguments: Any) -> None:
        finish(self, *arguments)
        done[0] += 1
        if done[0] == 2:
            raise StoppedError("a Spot machine went away")

    for shard in ("0/4", "1/4", "2/4", "3/4"):
        if shard in {"1/4", "2/4"}:
            with monkeypatch.context() as patch:
                patch.setattr(features._Extraction, "_finish", finish_until_killed)
                done[0] = 0
                with pytest.raises(StoppedError):
                    extract(photos, tmp_path / "shards", shard)
        extract(photos, tmp_path / "shards", shard)
    assert rows_in(tmp_path / "shards") == rows_in(tmp_path / "whole")


def test_an_array_job_extracts_its_shard_and_workers_extract_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_folders(tmp_path / "photos", 10)
    words = ["features", "extract", "--images", str(photos)]
    words += ["--features", str(tmp_path / "features"), "--json"]
    for name, value in SMALL.items():
        if name != "hidden_units":
            words += [f"--{name.replace('_', '-')}", str(value)]
    child = {"AWS_BATCH_JOB_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_SIZE": "3"}
    costs = []
    for more, environment in (([], child), (["--workers", "2"], {})):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert run([*words, *more]) == 0
        costs.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert 0 < costs[0]["forwarded"] < 20
    assert costs[1]["forwarded"] == 20 - costs[0]["forwarded"]
    assert costs[1]["reused"] == costs[0]["forwarded"]
    assert len(rows_in(tmp_path / "features")) == 20
