import csv
import hashlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Trained
from tests.pictures import jpeg, write_folders
from tests.train_job.small_backbones import share_built_backbones
from transferlite import Predictor
from transferlite.cli.main import run
from transferlite.errors import GateError, InputError
from transferlite.images.decoder import decode
from transferlite.inference.interpreter import name_and_version, runtime_version
from transferlite.inference.variants import TFLITE_VARIANTS
from transferlite.registry.local_bundle import describe_files, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.trust.keys import create_key

PHASES = ("data", "features", "head", "evaluate", "export", "compare", "report", "publish")


def train(images: Path, registry: Path, **settings: Any) -> Any:
    from train_job.options import TrainOptions
    from train_job.pipeline.train_job import train as run
    from train_job.progress import Reporter

    small: dict[str, Any] = {
        "backbone": "mobilenet_v3_small",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "hidden_units": 8,
        "promote": "always",
    }
    with share_built_backbones():
        return run(TrainOptions(images=str(images), registry=str(registry), **small | settings), Reporter())


def table(registry: Path, model_id: str, name: str) -> list[dict[str, str]]:
    text = (registry / "models" / model_id / "training" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def splits(registry: Path, result: Any) -> dict[str, str]:
    return {row["sha256"]: row["split"] for row in table(registry, result.manifest.model_id, "dataset.csv")}


def evaluation(registry: Path, result: Any) -> Any:
    path = registry / "models" / result.manifest.model_id / "training" / "evaluation.json"
    return json.loads(path.read_text(encoding="utf-8"))


def published(registry: Path) -> list[str]:
    return [path.name for path in registry.glob("models/*")] + [path.name for path in registry.glob("channels/*")]


def test_a_batch_attempt_after_the_promotion_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_folders(tmp_path / "photos", 10)
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "job-1")
    first = train(photos, tmp_path / "registry")
    monkeypatch.setenv("AWS_BATCH_JOB_ATTEMPT", "2")
    second = train(photos, tmp_path / "registry")
    assert (second.manifest.model_id, second.promoted) == (first.manifest.model_id, True)
    monkeypatch.setenv("AWS_BATCH_JOB_ID", "job-2")
    assert train(photos, tmp_path / "registry").manifest.model_id != first.manifest.model_id


# -- the version that the session fixture trained ---------------------------------------------------------------------


def test_the_bundle_contains_exactly_the_manifests_files(trained: Trained) -> None:
    assert describe_files(trained.bundle) == read_manifest(trained.bundle).files


def test_the_written_manifest_equals_the_results(trained: Trained) -> None:
    assert read_manifest(trained.bundle) == trained.result.manifest


def test_labels_are_the_folder_names_in_order(trained: Trained) -> None:
    assert (trained.bundle / "labels.txt").read_text() == "blue\nred\n"
    assert trained.result.manifest.labels == ("blue", "red")


def test_the_channel_points_to_the_new_version(trained: Trained) -> None:
    pointer = Registry.open(str(trained.registry)).channel("production")
    assert (pointer.model_id, pointer.previous) == (trained.result.manifest.model_id, ())


def test_every_phase_is_timed_and_part_of_the_total(trained: Trained) -> None:
    seconds = trained.result.seconds
    assert list(seconds) == [*PHASES, "total"]
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds.values()) <= 2 * seconds["total"]


def test_metrics_count_every_photo_of_each_split(trained: Trained) -> None:
    metrics = trained.result.manifest.metrics
    assert {split: scores["photos"] for split, scores in metrics.items()} == {"train": 20, "validation": 2, "test": 2}
    for scores in metrics.values():
        assert scores["accuracy"] == 1
        assert scores["classes"].keys() == {"blue", "red"}
        assert sum(counts["right"] for counts in scores["classes"].values()) == scores["photos"]


def test_the_manifest_records_input_backbone_data_options_and_software(trained: Trained) -> None:
    manifest = trained.result.manifest
    assert (manifest.input.height, manifest.input.width) == (64, 64)
    assert (manifest.backbone["name"], manifest.backbone["weights"]) == ("efficientnet_lite0", "default")
    assert manifest.dataset["photos"] == {"train": 20, "validation": 2, "test": 2}
    assert manifest.dataset["rejected"] == 0
    assert (manifest.training["epochs"], manifest.training["split"]) == (10, "80/10/10")
    assert manifest.software.keys() >= {"python", "tensorflow", "keras", "transferlite"}


def test_every_variant_was_evaluated_on_the_test_photos(trained: Trained) -> None:
    variants = trained.result.manifest.variants
    assert list(variants) == ["saved_model", "float32", "float16", "dynamic", "int8"]
    assert {variant.photos for variant in variants.values()} == {2}
    assert {variant.accuracy for variant in variants.values()} == {1}
    assert max(variants[name].max_difference for name in ("saved_model", "float32")) < 1e-4
    assert {variant.in_float for variant in variants.values()} == {()}


def test_the_gate_ran_every_file_in_every_installed_runtime(trained: Trained) -> None:
    gate = trained.result.manifest.gate
    here, tensorflow = runtime_version(), name_and_version("tensorflow")
    expected = [(name, at) for name in TFLITE_VARIANTS for at in (here, tensorflow)]
    signatures = [("saved_model", f"{tensorflow}, {name}") for name in ("features", "serve_encoded")]
    assert [(result.variant, result.runtime) for result in gate] == [
        ("saved_model", tensorflow),
        *expected,
        *signatures,
    ]
    assert {
        (result.photos, result.accuracy, result.accuracy_drop, result.recall_drop, result.failure) for result in gate
    } == {(2, 1, 0, 0, "")}
    assert read_manifest(trained.bundle).gate == gate


def test_dataset_csv_lists_each_photo_with_its_hash_and_split(trained: Trained) -> None:
    rows = table(trained.registry, trained.result.manifest.model_id, "dataset.csv")
    photos = sorted(map(str, trained.photos.rglob("*.jpg")))
    assert sorted(row["image"] for row in rows) == photos
    for row in rows:
        assert row["label"] == Path(row["image"]).parent.name
        assert row["sha256"] == hashlib.sha256(Path(row["image"]).read_bytes()).hexdigest()
    per_class = [(row["label"], row["split"]) for row in rows]
    assert {pair: per_class.count(pair) for pair in per_class} == {
        (label, split): count
        for label in ("blue", "red")
        for split, count in (("train", 10), ("validation", 1), ("test", 1))
    }


def test_history_csv_has_a_line_per_epoch_and_the_loss_falls(trained: Trained) -> None:
    rows = table(trained.registry, trained.result.manifest.model_id, "history.csv")
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 11)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert all(float(row["val_loss"]) >= 0 for row in rows)


def test_the_quarantine_is_empty_if_every_photo_is_usable(trained: Trained) -> None:
    assert table(trained.registry, trained.result.manifest.model_id, "quarantine.csv") == []


def test_the_json_result_has_id_labels_metrics_registry_and_seconds(trained: Trained) -> None:
    printed = json.loads(json.dumps(trained.result.to_dict()))
    assert printed["model_id"] == trained.result.manifest.model_id
    assert printed["labels"] == ["blue", "red"]
    assert printed["metrics"]["test"]["accuracy"] == 1
    assert printed["metrics"]["variants"] == dict.fromkeys(("saved_model", *TFLITE_VARIANTS), 1)
    assert printed["registry"] == str(trained.registry)
    assert "total" in printed["seconds"]


def test_evaluation_json_has_metrics_of_every_variant_and_the_calibration(trained: Trained) -> None:
    found = evaluation(trained.registry, trained.result)
    assert list(found["models"]) == ["keras", "saved_model", *TFLITE_VARIANTS]
    for measured in found["models"].values():
        assert (measured["photos"], measured["right"], measured["accuracy"]) == (2, 2, 1)
        assert measured["confusion"] == [[1, 0], [0, 1]]
        assert measured["classes"]["blue"]["recall"] == 1
    assert found["models"]["keras"]["curves"].keys() == {"blue", "red"}
    assert found["temperature"] == trained.result.manifest.calibration["temperature"] != 1
    assert found["calibration"].keys() == {"validation", "test"}
    assert (found["comparison"], trained.result.manifest.threshold) == (None, 0)


def test_a_version_with_two_test_photos_is_promoted_if_cross_validation_shows_that_it_is_good(trained: Trained) -> None:
    found = evaluation(trained.registry, trained.result)
    assert found["folds"]["count"] == 5
    assert found["baseline"]["photos"] == found["baseline"]["right"] == 24
    assert (found["baseline"]["constant_right"], found["baseline"]["cross_validated"]) == (12, 22)
    assert found["promotion"] == {"promoted": True, "reasons": []}
    (warning,) = found["warnings"]
    assert warning.startswith("the test set is small: accuracy 100.0% on 2 photos, 95% interval 34.2% to 100.0%.")
    assert "The test set is small" in (trained.bundle / "report.html").read_text(encoding="utf-8")


def test_tflite_files_were_timed_on_one_thread(trained: Trained) -> None:
    variants = trained.result.manifest.variants
    assert variants["saved_model"].milliseconds is None
    assert all((variants[name].milliseconds or 0) > 0 for name in TFLITE_VARIANTS)


# -- a second run, with more photos and an unreadable one --------------------------------------------------------------


@dataclass(frozen=True)
class SecondRun:
    photos: Path
    registry: Path
    before: Any
    result: Any


@pytest.fixture(scope="module")
def second(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> SecondRun:
    """A second run in a copy of the trained registry: the same photos, 48 more per class and an unreadable one.

    Its head hardly learns anything and predicts a single class. The test photos are enough for the promotion check.
    """
    root = tmp_path_factory.mktemp("second")
    shutil.copytree(trained.registry, root / "registry")
    photos = write_folders(root / "photos", count=60)
    (photos / "red" / "broken.jpg").write_bytes(jpeg("red", 50)[:700])
    (photos / "blue" / "blue.1.jpg").rename(photos / "blue" / "zzz.jpg")
    (photos / "red" / "copy.jpg").write_bytes(jpeg("red", 3))
    settings: dict[str, Any] = {"promote": "auto", "learning_rate": 1e-9}
    return SecondRun(photos, root / "registry", trained.result, train(photos, root / "registry", **settings))


def test_an_unreadable_photo_is_quarantined_and_the_job_succeeds(second: SecondRun) -> None:
    row, copy = table(second.registry, second.result.manifest.model_id, "quarantine.csv")
    assert row["uri"].endswith("red/broken.jpg")
    assert (row["row"], row["code"]) == ("", "truncated")
    assert copy["code"] == "duplicate"
    assert second.result.manifest.dataset["rejected"] == 2
    assert len(splits(second.registry, second.result)) == 120


def test_the_next_run_keeps_every_photos_split(second: SecondRun) -> None:
    before, after = splits(second.registry, second.before), splits(second.registry, second.result)
    assert len(before) == 24
    assert before.items() <= after.items()


def test_check_json_includes_photos_that_were_not_fetched_again(second: SecondRun) -> None:
    folder = second.registry / "models" / second.result.manifest.model_id / "training"
    summary = json.loads((folder / "check.json").read_text())
    assert summary["rejects"] == {"truncated": 1, "duplicate": 1}
    assert (summary["formats"], summary["unknown"]) == ({"JPEG": 120}, 0)
    assert (folder / "notes.csv").read_text() == "row,uri,code,reason,what_to_do\n"
    assert (folder / "departed.csv").read_text() == "sha256,split\n"


def test_after_a_training_plan_finds_no_new_label_although_photos_were_rejected(
    second: SecondRun, capsys: pytest.CaptureFixture[str]
) -> None:
    locations = ["--images", str(second.photos), "--registry", str(second.registry)]
    assert run(["plan", *locations, "--backbone", "mobilenet_v3_small", "--new-labels", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (plan["photos"], plan["new_labels"], plan["go"]) == (122, 0, False)


def test_a_worse_version_is_published_but_not_promoted(second: SecondRun) -> None:
    before, now = second.before.manifest.model_id, second.result.manifest.model_id
    assert not second.result.promoted
    assert Registry.open(str(second.registry)).channel("production").model_id == before
    assert Registry.open(str(second.registry)).manifest(now) == second.result.manifest
    of_class, overall = second.result.refused
    assert re.match(r"'(blue|red)': recall fell from \d+.0% to 0.0%: of (\d) test photos \2 got worse, 0 got", of_class)
    assert re.match(r"accuracy fell from \d+.\d% to \d+.\d%: of \d+ test photos", overall)
    assert second.result.to_dict()["refused"] == list(second.result.refused)


def test_the_comparison_is_stored_in_evaluation_json(second: SecondRun) -> None:
    kept = evaluation(second.registry, second.result)["comparison"]
    assert kept["champion"] == second.before.manifest.model_id
    assert kept["reasons"] == list(second.result.refused)
    assert kept["photos"] == second.result.manifest.metrics["test"]["photos"]


def test_a_refused_version_can_be_promoted_by_hand(second: SecondRun, tmp_path: Path) -> None:
    shutil.copytree(second.registry, tmp_path / "registry")
    pointer = Registry.open(str(tmp_path / "registry")).promote(second.result.manifest.model_id, "production")
    assert pointer.previous == (second.before.manifest.model_id,)


# -- few photos and weak models ---------------------------------------------------------------------------------------


def test_a_first_version_that_is_no_better_than_the_majority_class_is_not_promoted(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    result = train(write_folders(tmp_path / "photos", 10), registry, promote="auto", learning_rate=1e-9)
    (reason,) = result.refused
    assert re.match(r"not shown to be better than always predicting 'blue': \d+ of 20 photos \(2 test photos, ", reason)
    assert Registry.open(str(registry)).channels() == {}
    assert evaluation(registry, result)["promotion"] == {"promoted": False, "reasons": [reason]}
    report = (registry / "models" / result.manifest.model_id / "report.html").read_text(encoding="utf-8")
    assert "Not promoted: not shown to be better" in report


def test_promote_always_overrides_the_floor(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    photos = write_folders(tmp_path / "photos", 10)
    result = train(photos, registry, learning_rate=1e-9, variants=("float32",))
    assert (result.promoted, result.refused) == (True, ())
    assert not evaluation(registry, result)["baseline"]["is_better"]


def test_forty_classes_of_one_to_three_photos_are_cross_validated(tmp_path: Path) -> None:
    photos, registry = tmp_path / "photos", tmp_path / "registry"
    for number in range(40):
        folder = photos / f"class{number:02}"
        folder.mkdir(parents=True)
        for photo in range(1 + number % 3):
            (folder / f"{photo}.jpg").write_bytes(jpeg("green", 10 * number + photo))
    result = train(photos, registry, promote="auto", variants=("float32",))
    found, total = evaluation(registry, result), 14 * 1 + 13 * 2 + 13 * 3
    assert result.manifest.dataset["photos"] == {"train": total, "validation": 0, "test": 0}
    assert (found["cross_validated"], found["folds"]["count"]) == (True, 3)
    assert result.manifest.metrics["test"]["photos"] == found["baseline"]["photos"] == total
    assert found["models"]["keras"]["accuracy"] == result.manifest.metrics["test"]["accuracy"] < 0.5
    assert found["warnings"][0].startswith("no photo could be set aside to test on")
    assert result.refused[0].startswith("not shown to be better than always predicting")


def test_classes_of_one_photo_each_cannot_be_evaluated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photo is left to test on, and no class has two photos"):
        train(write_folders(tmp_path / "photos", 1), tmp_path / "registry")


# -- labels that changed since the current version --------------------------------------------------------------------


def test_swapped_labels_are_reported_and_refused(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Path(shutil.copytree(trained.registry, tmp_path / "registry"))
    photos = tmp_path / "photos"
    shutil.copytree(trained.photos / "red", photos / "blue")
    shutil.copytree(trained.photos / "blue", photos / "red")
    result = train(photos, registry, promote="auto")
    before = trained.result.manifest.model_id
    summary = f"24 of 24 photos (100%) have another label than in {before}: 'blue' <-> 'red' swapped? (12 + 12)"
    assert f"warning: {summary}\n" in capsys.readouterr().err
    assert result.refused[0].startswith(summary)
    assert Registry.open(str(registry)).channel("production").model_id == before
    found = evaluation(registry, result)
    assert found["label_changes"]["changed"] == 24
    assert found["warnings"][-1] == summary
    assert "swapped?" in (registry / "models" / result.manifest.model_id / "report.html").read_text()
    notes = table(registry, result.manifest.model_id, "notes.csv")
    assert [row["code"] for row in notes].count("relabelled") == 24
    check = ["check", "--images", str(photos), "--registry", str(registry), "--out", str(tmp_path), "--json"]
    assert run(check) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["label_changes"]["pairs"] == [
        {"from": "blue", "to": "red", "photos": 12},
        {"from": "red", "to": "blue", "photos": 12},
    ]


# -- test photos chosen by the user, with a CSV ------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnTest:
    registry: Path
    tests: Path
    result: Any


@pytest.fixture(scope="module")
def own_test(tmp_path_factory: pytest.TempPathFactory) -> OwnTest:
    root = tmp_path_factory.mktemp("own")
    for name, count, start in (("photos", 10, 0), ("tests", 3, 100)):
        (root / name).mkdir()
        rows = ["File Name,Label"]
        for colour in ("blue", "red"):
            for number in range(start, start + count):
                (root / name / f"{colour}.{number}.jpg").write_bytes(jpeg(colour, number))
                rows.append(f"{colour}.{number}.jpg,{colour}")
        (root / f"{name}.csv").write_text("\n".join([*rows, "gone.jpg,red"]))
    result = train(
        root / "photos",
        root / "registry",
        labels=str(root / "photos.csv"),
        test_images=str(root / "tests"),
        test_labels=str(root / "tests.csv"),
        classes=("red", "blue"),
        folds=3,
        precision=0.5,
        channel="staging",
    )
    return OwnTest(root / "registry", root / "tests", result)


def test_the_users_test_photos_are_the_test_split(own_test: OwnTest) -> None:
    rows = table(own_test.registry, own_test.result.manifest.model_id, "dataset.csv")
    tested = {row["image"] for row in rows if row["split"] == "test"}
    assert tested == {str(path) for path in own_test.tests.glob("*.jpg")}
    assert own_test.result.manifest.metrics["test"]["photos"] == 6
    assert {variant.photos for variant in own_test.result.manifest.variants.values()} == {6}


def test_missing_photos_of_both_csvs_are_quarantined_with_their_rows(own_test: OwnTest) -> None:
    rows = table(own_test.registry, own_test.result.manifest.model_id, "quarantine.csv")
    assert [(row["row"], row["code"]) for row in rows] == [("22", "missing"), ("8", "missing")]


def test_labels_are_in_the_order_of_the_classes_option(own_test: OwnTest) -> None:
    labels = own_test.registry / "models" / own_test.result.manifest.model_id / "labels.txt"
    assert labels.read_text() == "red\nblue\n"


def test_cross_validation_and_the_threshold_are_stored(own_test: OwnTest) -> None:
    found = evaluation(own_test.registry, own_test.result)
    assert found["folds"]["count"] == len(found["folds"]["accuracies"]) == 3
    assert found["folds"]["interval"][0] <= found["folds"]["mean"] <= found["folds"]["interval"][1]
    assert found["abstention"]["precision"] == 0.5
    assert own_test.result.manifest.threshold == found["abstention"]["threshold"]


def test_only_the_channel_of_the_options_is_changed(own_test: OwnTest) -> None:
    assert Registry.open(str(own_test.registry)).channels().keys() == {"staging"}


# -- jobs that end with an error --------------------------------------------------------------------------------------


def test_too_many_rejected_photos_stop_the_job_and_publish_nothing(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", count=4)
    for number in range(3):
        (photos / "red" / f"bad.{number}.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"3 of 11 photos cannot be used \(limit 25%\).*--fail-over"):
        train(photos, tmp_path / "registry", fail_over=0.25)
    assert published(tmp_path / "registry") == []


def test_variants_that_fail_the_gate_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float32 file that differs from Keras stops the job; a float16 file is left out of the version."""
    off = np.array([1e-3, -1e-3], np.float32)
    monkeypatch.setattr(
        "train_job.pipeline.export_variants._reference",
        lambda classifier, *_: lambda images: classifier.predict(images) + off,
    )
    photos, registry = write_folders(tmp_path / "photos", count=4), tmp_path / "registry"
    chosen = {"variants": ("float32", "float16"), "max_difference": 0.0}
    with pytest.raises(GateError, match=r"a probability differs by .* nothing was published"):
        train(photos, registry, **chosen)
    assert published(registry) == []
    off *= 0.05  # within the limit of exact variants, and above this job's limit for float16
    result = train(photos, registry, **chosen)
    assert list(result.manifest.variants) == ["saved_model", "float32"]
    assert "a probability differs by" in result.manifest.left_out["float16"]
    bundle = registry / "models" / result.manifest.model_id
    assert [path.name for path in bundle.glob("*.tflite")] == ["float32.tflite"]
    assert {check.variant for check in result.manifest.gate if check.failure} == {"float16"}
    for page in ("report.html", "MODEL_CARD.md"):
        assert "a probability differs by" in (bundle / page).read_text(encoding="utf-8").replace("\u00a0", " ")


def test_after_a_failed_gate_other_options_resume_at_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_job.extraction.extract_features import ExtractionCounts
    from train_job.head.compiled_loop import EpochProgram

    monkeypatch.setattr("train_job.head.fit.SHORT_SECONDS", 0.0)
    photos, registry = write_folders(tmp_path / "photos", count=4), tmp_path / "registry"
    with monkeypatch.context() as patch:
        patch.setattr(
            "train_job.pipeline.export_variants._reference", lambda *_: lambda images: np.ones((len(images), 2))
        )
        with pytest.raises(GateError, match="nothing was published"):
            train(photos, registry, variants=("float32",))
    calls: list[int] = []
    run_program = EpochProgram.__call__

    def counted(self: EpochProgram, epochs: int, steps: int, *rest: Any) -> Any:
        calls.append(epochs * steps)
        return run_program(self, epochs, steps, *rest)

    monkeypatch.setattr(EpochProgram, "__call__", counted)
    monkeypatch.setattr(EpochProgram, "compile", lambda *_: pytest.fail("a program was compiled"))
    other: dict[str, Any] = {"variants": ("float32", "float16"), "max_accuracy_drop": 0.5, "batch": 2, "tolerance": 0.5}
    result = train(photos, registry, **other)
    assert set(result.manifest.variants) >= {"float16", "float16_batch2"}
    assert calls == []
    run = json.loads((registry / "models" / result.manifest.model_id / "training" / "run.json").read_text())
    assert ExtractionCounts(**run["features"]).forwarded == 0
    assert len(table(registry, result.manifest.model_id, "history.csv")) == 2


def test_a_retrain_builds_no_backbone_and_joins_the_stored_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, registry = write_folders(tmp_path / "photos", count=4), tmp_path / "registry"
    first = train(photos, registry)
    (photos / "red" / "new.jpg").write_bytes(jpeg("red", 77))
    monkeypatch.setattr("train_job.extraction.frozen_backbone.feature_model", lambda *_: pytest.fail("it was built"))
    monkeypatch.setattr("train_job.pipeline.gather_report.worst_predictions", lambda *_: [])  # no heat maps
    second = train(photos, registry)
    assert second.manifest.left_out == first.manifest.left_out
    assert {result.failure for result in second.manifest.gate if result.variant in {"saved_model", "float32"}} == {""}
    assert second.manifest.backbone == first.manifest.backbone


def test_a_version_that_another_job_promoted_meanwhile_is_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from train_job.pipeline import promotion

    photos, registry = write_folders(tmp_path / "photos", count=4), tmp_path / "registry"
    first, second = train(photos, registry), train(photos, registry, promote="never")
    compared: list[str] = []
    opened = Registry.open(str(registry))

    def compare(job: Any, *_: Any) -> None:
        compared.append(promotion.current_version(job))
        if len(compared) == 1:
            opened.promote(second.manifest.model_id, "production")

    monkeypatch.setattr("train_job.pipeline.promotion.compare_with_champion", compare)
    monkeypatch.setattr("train_job.pipeline.promotion.refusals", lambda *_: ())
    third = train(photos, registry, promote="auto")
    assert compared == [first.manifest.model_id, second.manifest.model_id]
    assert opened.channel("production").previous[0] == second.manifest.model_id
    assert third.promoted
    assert "comparing again" in capsys.readouterr().err


def test_int8_is_calibrated_with_training_photos_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.tflite.quantise import full_range_picture, observe

    photos, registry = write_folders(tmp_path / "photos", 20), tmp_path / "registry"
    calibrated_with: list[bytes] = []

    def watched(content: bytes, images: Any) -> Any:
        calibrating = list(images)
        calibrated_with.extend(image.tobytes() for image in calibrating)
        return observe(content, calibrating)

    monkeypatch.setattr("train_job.extraction.activation_ranges.observe", watched)
    result = train(photos, registry, variants=("float32", "int8"))
    split_of = splits(registry, result)
    assert set(split_of.values()) == {"train", "validation", "test"}
    files = [path.read_bytes() for path in photos.rglob("*.jpg")]
    learnt_from = [data for data in files if split_of[hashlib.sha256(data).hexdigest()] == "train"]
    expected = [decode(data, result.manifest.input).tobytes() for data in learnt_from]
    expected.append(full_range_picture(result.manifest.input).tobytes())
    assert sorted(calibrated_with) == sorted(expected)


def test_a_rejected_share_at_the_limit_is_allowed() -> None:
    from train_job.data.dataset import Dataset
    from train_job.data.example import Example, RejectedPhoto
    from train_job.data.photos import Photos

    examples = Photos.of([Example("a", "cat"), Example("b", "dog"), Example("c", "dog")])
    rejects = (RejectedPhoto("d", 5, "empty", "the file is empty"),)
    Dataset(examples, ("cat", "dog"), rejects).check_rejected_share(0.25)
    with pytest.raises(InputError, match=r"1 of 4 photos.*the first is d: the file is empty"):
        Dataset(examples, ("cat", "dog"), rejects).check_rejected_share(0.24)


def test_repeated_csv_rows_do_not_count_as_rejected_photos(tmp_path: Path) -> None:
    from train_job.data.labels.read_labels import read_dataset

    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).write_bytes(b"")
    rows = "a.jpg,cat\nb.jpg,dog\n" * 4
    (tmp_path / "labels.csv").write_text(f"File Name,Label\n{rows}")
    read_dataset(str(tmp_path / "photos"), str(tmp_path / "labels.csv")).check_rejected_share(0.5)


def test_a_job_without_readable_photos_stops_with_the_reason(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", count=2)
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        train(photos, tmp_path / "registry", fail_over=1.0)
    assert published(tmp_path / "registry") == []


def test_an_unwritable_registry_is_reported_before_photos_are_read(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file")
    with pytest.raises(InputError, match="registry: is a file"):
        train(tmp_path / "nowhere", tmp_path / "registry")


def test_an_invalid_channel_is_reported_before_photos_are_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a channel name"):
        train(tmp_path / "nowhere", tmp_path / "registry", channel="Not a channel")


@pytest.mark.parametrize("fine_tuning", [{}, {"fine_tune_from": "154", "fine_tune_epochs": 1}])
def test_unlike_photos_and_the_negative_class_are_in_the_version(tmp_path: Path, fine_tuning: dict[str, Any]) -> None:
    photos = write_folders(tmp_path / "photos", 12, ("blue", "red", "green"))
    (photos / "green").rename(photos / "_negative")
    result = train(photos, tmp_path / "registry", reject_unlike=0.2, variants=("float32",), **fine_tuning)
    assert (result.manifest.familiarity, result.manifest.negative) == ("familiarity.bin", "_negative")
    effect = evaluation(tmp_path / "registry", result)["familiarity"]
    assert effect["rejected"] == 0.2
    assert effect["validation"]["rejected"] <= 0.2 * effect["validation"]["photos"]
    predictor = Predictor.load(tmp_path / "registry" / "models" / result.manifest.model_id)
    predictions = [predictor(path) for path in photos.rglob("*.jpg")]
    assert all(prediction.familiarity is not None for prediction in predictions)
    assert "_negative" not in {prediction.label for prediction in predictions}


def test_a_negative_class_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--negative-class: there is no class 'other'; the classes are blue, red"):
        train(write_folders(tmp_path / "photos", 4), tmp_path / "registry", negative_class="other")


def test_precision_without_validation_photos_is_rejected(tmp_path: Path) -> None:
    from train_job.data.split import SplitShares

    with pytest.raises(InputError, match="--precision needs validation photos"):
        train(write_folders(tmp_path / "photos", 4), tmp_path / "registry", precision=0.9, split=SplitShares(50, 0, 50))
    with pytest.raises(InputError, match="--reject-unlike needs validation photos"):
        train(tmp_path / "photos", tmp_path / "registry", reject_unlike=0.02, split=SplitShares(50, 0, 50))


def test_an_unknown_optimizer_is_reported_before_photos_are_decoded(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", count=2)
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="unknown optimizer"):
        train(photos, tmp_path / "registry", optimizer="nosuch")


def test_a_csv_of_missing_photos_is_reported_before_the_backbone_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: Any) -> None:
        raise AssertionError("the backbone was built")

    monkeypatch.setattr("train_job.extraction.frozen_backbone.build_backbone", built)
    photos = write_folders(tmp_path / "photos", count=2)
    rows = "".join(f"gone{number}.jpg,red\n" for number in range(20))
    (tmp_path / "labels.csv").write_text(f"File Name,Label\nblue/blue.0.jpg,blue\nred/red.0.jpg,red\n{rows}")
    with pytest.raises(InputError, match="20 of 22 photos"):
        train(photos, tmp_path / "registry", labels=str(tmp_path / "labels.csv"))


def test_published_versions_and_channels_are_signed(trained: Trained, tmp_path: Path) -> None:
    keys = create_key(tmp_path / "key.pem", tmp_path / "key.pub.pem")
    key = str(tmp_path / "key.pem")
    model_id = train(trained.photos, tmp_path / "registry", signing_key=key).manifest.model_id
    device = Registry.open(str(tmp_path / "registry"), str(tmp_path / "key.pub.pem"))
    assert device.resolve("production") == model_id
    assert "signing_key" not in device.manifest(model_id).training
    assert device.keys is not None
    assert list(device.keys.keys) == list(keys.keys)
    with pytest.raises(InputError, match=r"channel production: is signed.*--signing-key"):
        train(trained.photos, tmp_path / "registry")
    assert [manifest.model_id for manifest in device.versions()] == [model_id]
