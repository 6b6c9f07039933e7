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
from tests.transferlite.keys import ed25519
from transferlite.cli.drift import drift
from transferlite.errors import BundleError, InputError, NotFoundError
from transferlite.monitoring import drift as drift_module
from transferlite.monitoring.drift import Expected, Observed, compare, expected_from, observed_by_model, stability
from transferlite.monitoring.read_records import parse_since, read_records
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def record(label: str, score: float, model: str = "m", **more: Any) -> dict[str, Any]:
    top = [{"label": label, "score": score}]
    return {"image": "s3://b/k", "etag": "e", "model_id": model, "label": label, "score": score, "top": top, **more}


def random_predictions(shares: dict[str, float], photos: int, seed: int, low: float = 0.5) -> Observed:
    """Predictions with these shares of classes, and confidence uniform from ``low`` to 1."""
    random, observed = np.random.default_rng(seed), Observed()
    for label in random.choice(list(shares), photos, p=list(shares.values())):
        observed.add(record(str(label), float(random.uniform(low, 1))))
    return observed


EXPECTED = Expected(
    {"cat": 500, "dog": 490, "rare": 4, "never": 6}, tuple(np.linspace(0.55, 0.95, 9)), (100,) * 10, abstained=0
)


# -- the index -------------------------------------------------------------------------------------------------------


def test_the_index_agrees_with_its_formula() -> None:
    """(0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5); the half photo per bin is negligible here."""
    assert stability((500_000, 500_000), (400_000, 600_000)).value == pytest.approx(0.040547, abs=1e-5)


def test_equal_shares_have_index_0_at_any_count() -> None:
    assert stability((1000, 3000), (250_000, 750_000)).value == pytest.approx(0, abs=1e-6)


def test_an_empty_bin_is_finite_and_a_bin_empty_in_both_is_left_out() -> None:
    index = stability((10, 0, 0), (0, 10, 0))
    assert 0 < index.value < 10
    assert index == stability((10, 0), (0, 10))


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 50, 999])
def test_the_percentile_of_chance_is_that_of_chi_square(degrees: int) -> None:
    assert drift_module._chi_square_95(degrees) == pytest.approx(chi2.ppf(0.95, degrees), rel=0.03)


@pytest.mark.parametrize("photos", [60, 400, 5000])
def test_without_drift_the_index_exceeds_chance_in_5_percent_of_cases(photos: int) -> None:
    over, random = 0, np.random.default_rng(photos)
    shares = np.full(10, 0.1)
    for _ in range(1000):
        expected, observed = random.multinomial(1000, shares), random.multinomial(photos, shares)
        index = stability(expected.tolist(), observed.tolist())
        over += index.value > index.chance
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
def test_a_shift_of_classes_or_confidence_is_detected(
    shares: dict[str, float], low: float, over: tuple[bool, bool]
) -> None:
    result = compare("m", random_predictions(shares, 2000, seed=1, low=low), EXPECTED)
    assert result.classes is not None
    assert result.confidence is not None
    assert (result.classes.exceeds(0.25), result.confidence.exceeds(0.25)) == over
    assert result.exceeds(0.25) == any(over)
    readings = [index["reading"] for index in (result.to_dict()["classes"], result.to_dict()["confidence"])]
    assert [reading == "large shift" for reading in readings] == list(over)


def test_a_large_index_of_few_photos_is_within_chance() -> None:
    result = compare("m", random_predictions({"cat": 0.5, "dog": 0.5}, 5, seed=3), EXPECTED)
    assert result.confidence is not None
    assert result.confidence.value > 0.25
    assert result.confidence.reading == "within chance"
    assert not result.exceeds(0.25)


def test_errors_and_abstentions_are_shares() -> None:
    records = [record("cat", 0.9)] * 6 + [record("cat", 0.5) | {"label": "unknown"}] * 2
    records += [{"model_id": "m", "error": {"code": "truncated", "message": "the end is missing"}}] * 2
    ((model_id, observed),) = observed_by_model(records).items()
    result = compare(model_id, observed, EXPECTED).to_dict()
    assert (result["photos"], result["abstained"], result["error_share"]) == (8, 0.25, 0.2)
    assert result["errors"] == {"truncated": 2}
    assert result["shares"] == {"cat": 1.0}  # the most probable class, also below the threshold


@pytest.mark.parametrize(
    "junk", [{}, {"model_id": "m"}, {"model_id": "m", "score": "x"}, {"model_id": "m", "error": 1}]
)
def test_invalid_records_are_skipped(junk: dict[str, Any]) -> None:
    observed = observed_by_model([junk, record("cat", 0.9)])
    assert observed["m"].photos == 1


# -- the manifest of a training --------------------------------------------------------------------------------------


def test_a_trained_model_has_the_distribution_of_its_validation_photos(trained: Trained) -> None:
    manifest = read_manifest(trained.bundle)
    expected = expected_from(manifest)
    assert expected is not None
    assert expected.photos == sum(expected.classes.values()) == manifest.dataset["photos"]["validation"]
    assert len(expected.confidence) == len(expected.edges) + 1
    assert list(expected.edges) == sorted(set(expected.edges))


@pytest.mark.parametrize("metrics", [{}, {"validation": {"classes": {"cat": {"photos": 1, "right": 1}}}}])
def test_a_manifest_without_distributions_has_no_expected(metrics: dict[str, Any]) -> None:
    assert expected_from(manifest_of("old", metrics=metrics)) is None


# -- reading records -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "expected"),
    [("7d", "2026-01-24T12"), ("36h", "2026-01-30T00"), ("90m", "2026-01-31T10:30"), ("2026-01-01", "2026-01-01T00")],
)
def test_time_spans_are_parsed(since: str, expected: str) -> None:
    assert parse_since(since, NOW).isoformat().startswith(expected)


@pytest.mark.parametrize("since", ["", "7", "d", "-1d", "yesterday", "2026-13-01", "7 d"])
def test_a_wrong_time_span_is_refused(since: str) -> None:
    with pytest.raises(InputError, match="is not a time span; use 7d"):
        parse_since(since, NOW)


def test_records_are_selected_by_modification_time(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number, age in enumerate((0, 1, 6, 8, 30)):
        key = f"bucket/{number}.jpg.json"
        store.put(key, json.dumps(record("cat", 0.9, image=f"s3://b/{number}")).encode())
        os.utime(tmp_path / key, (time.time() - age * 86400,) * 2)
    (tmp_path / "bucket" / "notes.txt").write_text("no record")
    sampled = read_records(str(tmp_path), datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=7))
    assert (len(sampled.records), sampled.files, sampled.read) == (3, 3, 3)


def test_json_lines_are_selected_by_day_and_duplicates_count_once(tmp_path: Path) -> None:
    for day in ("2026-01-20", "2026-01-24", "2026-01-31"):
        (tmp_path / f"dt={day}").mkdir()
        lines = [json.dumps(record("cat", 0.9, image=f"s3://b/{day}/{number}")) for number in range(5)]
        for name in ("a", "b"):
            (tmp_path / f"dt={day}" / f"{name}.json").write_text("\n".join([*lines, "junk", "[]"]))
    sampled = read_records(str(tmp_path), parse_since("7d", NOW))
    assert (len(sampled.records), sampled.files) == (10, 4)


def test_the_same_sample_of_many_records_is_read_each_time(tmp_path: Path) -> None:
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
def registry(tmp_path: Path) -> Registry:
    """A registry with model ``m``."""
    manifest = write_bundle(tmp_path / "bundle", "m")
    validation = {
        "classes": {label: {"photos": 100, "right": 99, "predicted": 100} for label in ("cat", "dog")},
        "confidence": {"edges": [0.8, 0.9], "photos": [60, 60, 80]},
        "abstained": 4,
    }
    manifest = replace(manifest, metrics={**manifest.metrics, "validation": validation})
    opened = Registry.open(str(tmp_path / "registry"))
    opened.publish(tmp_path / "bundle", manifest)
    return opened


@pytest.fixture
def run(registry: Registry, tmp_path: Path) -> Callable[..., Any]:
    """Run the command on the given records."""

    def command(records: list[dict[str, Any]], *words: str) -> Any:
        (tmp_path / "predictions").mkdir()
        store = FolderStore(tmp_path / "predictions")
        for number, item in enumerate(records):
            store.put(f"b/{number}.json", json.dumps({**item, "image": f"s3://b/{number}"}).encode())
        options = ["--predictions", str(tmp_path / "predictions"), "--registry", registry.store.uri, *words]
        return CliRunner().invoke(drift, options)

    return command


def spread(cats: int, dogs: int) -> list[dict[str, Any]]:
    labels = ["cat"] * cats + ["dog"] * dogs
    return [record(label, (0.7, 0.85, 0.95)[number % 3]) for number, label in enumerate(labels)]


def test_without_drift_the_status_is_0(run: Callable[..., Any]) -> None:
    done = run([*spread(100, 100), {"model_id": "m", "error": {"code": "empty", "message": ""}}])
    assert done.exit_code == 0
    assert "201 records since 7d, in 201 files\n\nm: 200 photos labelled\n" in done.output
    assert "not labelled        0.5% (empty 1)" in done.output
    assert "cat                   50.0%  validation  50.0%" in done.output


def test_with_drift_the_status_is_3(run: Callable[..., Any]) -> None:
    done = run(spread(180, 20))
    assert done.exit_code == 3
    assert "large shift (chance alone: up to 0.0" in done.output


def test_a_higher_threshold_passes(run: Callable[..., Any]) -> None:
    assert run(spread(180, 20), "--threshold", "5").exit_code == 0


def test_json_lists_each_model(run: Callable[..., Any]) -> None:
    done = run([*spread(180, 20), *(item | {"model_id": "gone"} for item in spread(3, 3))], "--json")
    assert done.exit_code == 3
    summary = json.loads(done.output)
    assert summary["over"] == ["m"]
    assert [model["model_id"] for model in summary["models"]] == ["gone", "m"]
    assert summary["models"][0]["classes"] is None
    assert summary["models"][1]["classes"]["psi"] > 0.25


def test_a_model_without_distributions_is_reported(run: Callable[..., Any], registry: Registry, tmp_path: Path) -> None:
    registry.publish(tmp_path / "old", write_bundle(tmp_path / "old", "old"))
    done = run([item | {"model_id": "old"} for item in spread(3, 3)])
    assert done.exit_code == 0
    assert "nothing to compare with: its manifest has no distributions" in done.output


def test_old_versions_that_cannot_be_read_are_skipped_with_the_reason(
    run: Callable[..., Any], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = replace(registry, signer=ed25519())
    signed.sign("m")
    registry.publish(tmp_path / "unsigned", write_bundle(tmp_path / "unsigned", "unsigned"))
    signed.publish(tmp_path / "damaged", write_bundle(tmp_path / "damaged", "damaged"))
    registry.store.put("models/damaged/manifest.json", b"{")
    monkeypatch.setenv("TRANSFERLITE_PUBLIC_KEY", ed25519().public_keys.to_pem())
    others = [item | {"model_id": name} for item in spread(3, 3) for name in ("gone", "damaged", "unsigned", "../x")]
    done = run([*spread(180, 20), *others], "--json")
    assert done.exit_code == 3
    summary = json.loads(done.output)
    skipped = {model["model_id"]: model["skipped"] for model in summary["models"]}
    assert (summary["over"], skipped.pop("m")) == (["m"], "")
    reasons = {
        "gone": "there is no model gone",
        "damaged": "does not match its signature",
        "unsigned": "is not signed",
        "../x": "not a model id",
    }
    for model_id, reason in reasons.items():
        assert reason in skipped.pop(model_id)
    assert not skipped


def test_a_check_that_compares_nothing_fails(run: Callable[..., Any]) -> None:
    done = run([item | {"model_id": "gone"} for item in spread(3, 3)], "--json")
    assert isinstance(done.exception, BundleError)
    assert "no version could be compared (gone: " in str(done.exception)
    assert done.output == ""


def test_no_predictions_are_an_error(run: Callable[..., Any]) -> None:
    done = run([])
    assert isinstance(done.exception, NotFoundError)
    assert "has no predictions since 7d" in str(done.exception)


def test_records_in_s3_are_selected_by_modification_time(bucket: Any) -> None:
    for number in range(3):
        bucket.put_object(
            Bucket=BUCKET, Key=f"predictions/b/{number}.json", Body=json.dumps(record("cat", 0.9, image=str(number)))
        )
    now = datetime.datetime.now(datetime.UTC)
    assert len(read_records(f"s3://{BUCKET}/predictions", now - datetime.timedelta(hours=1)).records) == 3
    assert read_records(f"s3://{BUCKET}/predictions", now + datetime.timedelta(hours=1)).files == 0
