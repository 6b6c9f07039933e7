import datetime
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import chi2

from tests.conftest import BUCKET, Trained
from tests.transferlite.bundles import manifest_of, write_bundle
from transferlite.cli.drift import drift
from transferlite.errors import InputError, NotFoundError
from transferlite.monitoring import drift as module
from transferlite.monitoring.drift import Expected, Observed, compare, expected_of, observed_by_model, stability
from transferlite.monitoring.read_records import parse_since, read_records
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def record(label: str, score: float, model: str = "m", **more: Any) -> dict[str, Any]:
    top = [{"label": label, "score": score}]
    return {"image": "s3://b/k", "etag": "e", "model_id": model, "label": label, "score": score, "top": top, **more}


def drawn(shares: dict[str, float], photos: int, seed: int, low: float = 0.5) -> Observed:
    """What a model answers whose classes have these shares, and whose confidence is even from ``low`` to 1."""
    random, seen = np.random.default_rng(seed), Observed()
    for label in random.choice(list(shares), photos, p=list(shares.values())):
        seen.add(record(str(label), float(random.uniform(low, 1))))
    return seen


EXPECTED = Expected(
    {"cat": 500, "dog": 490, "rare": 4, "never": 6}, tuple(np.linspace(0.55, 0.95, 9)), (100,) * 10, abstained=0
)


# -- the index -------------------------------------------------------------------------------------------------------


def test_the_index_is_what_its_formula_says_by_hand() -> None:
    """(0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5); of so many photos half a photo is nothing."""
    assert stability((500_000, 500_000), (400_000, 600_000)).value == pytest.approx(0.040547, abs=1e-5)


def test_equal_shares_have_no_index_whatever_the_counts() -> None:
    assert stability((1000, 3000), (250_000, 750_000)).value == pytest.approx(0, abs=1e-6)


def test_an_empty_bin_is_finite_and_one_empty_in_both_is_none() -> None:
    found = stability((10, 0, 0), (0, 10, 0))
    assert 0 < found.value < 10
    assert found == stability((10, 0), (0, 10))


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 50, 999])
def test_the_percentile_of_chance_is_chi_squares(freedom: int) -> None:
    assert module._chi_square_95(freedom) == pytest.approx(chi2.ppf(0.95, freedom), rel=0.03)


@pytest.mark.parametrize("photos", [60, 400, 5000])
def test_without_drift_the_index_is_over_chance_once_in_twenty_times(photos: int) -> None:
    over, random = 0, np.random.default_rng(photos)
    shares = np.full(10, 0.1)
    for _ in range(1000):
        then, now = random.multinomial(1000, shares), random.multinomial(photos, shares)
        found = stability(then.tolist(), now.tolist())
        over += found.value > found.chance
    assert 10 <= over <= 90


@pytest.mark.parametrize(
    ("shares", "low", "over"),
    [
        ({"cat": 0.5, "dog": 0.5}, 0.5, (False, False)),
        ({"cat": 0.9, "dog": 0.1}, 0.5, (True, False)),
        ({"cat": 0.5, "dog": 0.5}, 0.9, (False, True)),
        ({"cat": 0.6, "never": 0.4}, 0.5, (True, False)),
    ],
)
def test_what_moved_is_told(shares: dict[str, float], low: float, over: tuple[bool, bool]) -> None:
    found = compare("m", drawn(shares, 2000, seed=1, low=low), EXPECTED)
    assert found.classes is not None
    assert found.confidence is not None
    assert (found.classes.exceeds(0.25), found.confidence.exceeds(0.25)) == over
    assert found.exceeds(0.25) == any(over)
    readings = [one["reading"] for one in (found.to_dict()["classes"], found.to_dict()["confidence"])]
    assert [reading == "moved much" for reading in readings] == list(over)


def test_of_few_photos_a_large_index_is_chance() -> None:
    found = compare("m", drawn({"cat": 0.5, "dog": 0.5}, 5, seed=3), EXPECTED)
    assert found.confidence is not None
    assert found.confidence.value > 0.25
    assert found.confidence.reading == "no more than chance"
    assert not found.exceeds(0.25)


def test_errors_and_abstentions_are_shares() -> None:
    records = [record("cat", 0.9)] * 6 + [record("cat", 0.5) | {"label": "unknown"}] * 2
    records += [{"model_id": "m", "error": {"code": "truncated", "message": "the end is missing"}}] * 2
    ((model, seen),) = observed_by_model(records).items()
    told = compare(model, seen, EXPECTED).to_dict()
    assert (told["photos"], told["abstained"], told["error_share"]) == (8, 0.25, 0.2)
    assert told["errors"] == {"truncated": 2}
    assert told["shares"] == {"cat": 1.0}  # what was most probable, sure or not


@pytest.mark.parametrize(
    "junk", [{}, {"model_id": "m"}, {"model_id": "m", "score": "x"}, {"model_id": "m", "error": 1}]
)
def test_what_is_no_record_is_left_out(junk: dict[str, Any]) -> None:
    found = observed_by_model([junk, record("cat", 0.9)])
    assert found["m"].photos == 1


# -- what a training writes ------------------------------------------------------------------------------------------


def test_a_trained_model_says_how_it_answered_its_validation_photos(trained: Trained) -> None:
    manifest = read_manifest(trained.bundle)
    expected = expected_of(manifest)
    assert expected is not None
    assert expected.photos == sum(expected.classes.values()) == manifest.dataset["photos"]["validation"]
    assert len(expected.confidence) == len(expected.edges) + 1
    assert list(expected.edges) == sorted(set(expected.edges))


@pytest.mark.parametrize("metrics", [{}, {"validation": {"classes": {"cat": {"photos": 1, "right": 1}}}}])
def test_a_manifest_of_an_older_release_has_nothing_to_compare_with(metrics: dict[str, Any]) -> None:
    assert expected_of(manifest_of("old", metrics=metrics)) is None


# -- reading records -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "expected"),
    [("7d", "2026-01-24T12"), ("36h", "2026-01-30T00"), ("90m", "2026-01-31T10:30"), ("2026-01-01", "2026-01-01T00")],
)
def test_a_time_span_is_a_moment(since: str, expected: str) -> None:
    assert parse_since(since, NOW).isoformat().startswith(expected)


@pytest.mark.parametrize("since", ["", "7", "d", "-1d", "yesterday", "2026-13-01", "7 d"])
def test_what_is_no_time_span_is_refused(since: str) -> None:
    with pytest.raises(InputError, match="is no time span; write 7d"):
        parse_since(since, NOW)


def test_records_are_chosen_by_when_they_were_written(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number, age in enumerate((0, 1, 6, 8, 30)):
        key = f"bucket/{number}.jpg.json"
        store.put(key, json.dumps(record("cat", 0.9, image=f"s3://b/{number}")).encode())
        os.utime(tmp_path / key, (time.time() - age * 86400,) * 2)
    (tmp_path / "bucket" / "notes.txt").write_text("no record")
    found = read_records(str(tmp_path), datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=7))
    assert (len(found.records), found.files, found.read) == (3, 3, 3)


def test_lines_are_chosen_by_their_day_and_repeated_ones_count_once(tmp_path: Path) -> None:
    for day in ("2026-01-20", "2026-01-24", "2026-01-31"):
        (tmp_path / f"dt={day}").mkdir()
        lines = [json.dumps(record("cat", 0.9, image=f"s3://b/{day}/{number}")) for number in range(5)]
        for name in ("a", "b"):
            (tmp_path / f"dt={day}" / f"{name}.json").write_text("\n".join([*lines, "junk", "[]"]))
    found = read_records(str(tmp_path), parse_since("7d", NOW))
    assert (len(found.records), found.files) == (10, 4)


def test_of_many_records_a_sample_is_read_the_same_each_time(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number in range(60):
        store.put(f"b/{number}.json", json.dumps(record("cat", 0.9, image=f"s3://b/{number}")).encode())
    first, again = (
        read_records(str(tmp_path), parse_since("1d", datetime.datetime.now(datetime.UTC)), 20) for _ in range(2)
    )
    assert (len(first.records), first.files, first.read) == (20, 60, 20)
    assert first == again


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """The command on the records given, with a registry that has the model ``m``."""
    manifest = write_bundle(tmp_path / "bundle", "m")
    validation = {
        "classes": {label: {"photos": 100, "right": 99, "predicted": 100} for label in ("cat", "dog")},
        "confidence": {"edges": [0.8, 0.9], "photos": [60, 60, 80]},
        "abstained": 4,
    }
    manifest = replace(manifest, metrics={**manifest.metrics, "validation": validation})
    Registry.open(str(tmp_path / "registry")).publish(tmp_path / "bundle", manifest)

    def command(records: list[dict[str, Any]], *words: str) -> Any:
        (tmp_path / "predictions").mkdir()
        store = FolderStore(tmp_path / "predictions")
        for number, one in enumerate(records):
            store.put(f"b/{number}.json", json.dumps({**one, "image": f"s3://b/{number}"}).encode())
        options = ["--predictions", str(tmp_path / "predictions"), "--registry", str(tmp_path / "registry"), *words]
        return CliRunner().invoke(drift, options)

    return command


def spread(cats: int, dogs: int) -> list[dict[str, Any]]:
    labels = ["cat"] * cats + ["dog"] * dogs
    return [record(label, (0.7, 0.85, 0.95)[number % 3]) for number, label in enumerate(labels)]


def test_a_model_that_did_not_move_ends_well(run: Callable[..., Any]) -> None:
    done = run([*spread(100, 100), {"model_id": "m", "error": {"code": "empty", "message": ""}}])
    assert done.exit_code == 0
    assert "201 records of the last 7d, in 201 files\n\nm: 200 photos labelled\n" in done.output
    assert "not labelled        0.5% (empty 1)" in done.output
    assert "cat                   50.0%  validation  50.0%" in done.output


def test_a_model_that_moved_ends_with_status_3(run: Callable[..., Any]) -> None:
    done = run(spread(180, 20))
    assert done.exit_code == 3
    assert "moved much (chance alone: up to 0.0" in done.output


def test_a_higher_threshold_lets_it_pass(run: Callable[..., Any]) -> None:
    assert run(spread(180, 20), "--threshold", "5").exit_code == 0


def test_json_tells_each_model_by_itself(run: Callable[..., Any]) -> None:
    done = run([*spread(180, 20), *(one | {"model_id": "gone"} for one in spread(3, 3))], "--json")
    assert done.exit_code == 3
    told = json.loads(done.output)
    assert told["over"] == ["m"]
    assert [one["model_id"] for one in told["models"]] == ["gone", "m"]
    assert told["models"][0]["classes"] is None
    assert told["models"][1]["classes"]["psi"] > 0.25


def test_a_model_without_distributions_says_so(run: Callable[..., Any]) -> None:
    done = run([one | {"model_id": "gone"} for one in spread(3, 3)])
    assert done.exit_code == 0
    assert "nothing to compare with" in done.output


def test_where_nothing_was_predicted_it_says_so(run: Callable[..., Any]) -> None:
    done = run([])
    assert isinstance(done.exception, NotFoundError)
    assert "holds no predictions of the last 7d" in str(done.exception)


def test_records_in_s3_are_listed_by_when_they_were_written(bucket: Any) -> None:
    for number in range(3):
        bucket.put_object(
            Bucket=BUCKET, Key=f"predictions/b/{number}.json", Body=json.dumps(record("cat", 0.9, image=str(number)))
        )
    now = datetime.datetime.now(datetime.UTC)
    assert len(read_records(f"s3://{BUCKET}/predictions", now - datetime.timedelta(hours=1)).records) == 3
    assert read_records(f"s3://{BUCKET}/predictions", now + datetime.timedelta(hours=1)).files == 0
