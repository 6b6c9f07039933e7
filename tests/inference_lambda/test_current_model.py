import datetime
import hashlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference_lambda.current_model import CurrentModel
from inference_lambda.settings import Settings
from tests.conftest import BUCKET, Trained
from tests.inference_lambda.models import publish
from tests.pictures import jpeg
from tests.transferlite.faults import refuse
from transferlite.errors import BundleError, InputError, NotFoundError, UnavailableError
from transferlite.predict.predictor import Predictor
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.manifest import GOLDEN, FileInfo
from transferlite.registry.open_registry import Registry
from transferlite.storage.s3_boto3 import s3_client


class Clock:
    """Clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry(trained: Trained, tmp_path: Path) -> Registry:
    """Local registry with versions one and two; production points to one."""
    opened = publish(str(tmp_path / "registry"), trained, "two", "one")
    opened.store.put("channels/production.json", Pointer("one", (), "").to_json())
    return opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serving(registry: Registry, clock: Clock) -> Callable[[], str]:
    """Function that returns the current version's id; the channel pointer is cached for 60 s."""
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    return lambda: model.get().manifest.model_id


def kept(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [json.loads(record.message) for record in caplog.records if "model-kept" in record.message]


def test_a_promotion_is_followed_after_the_refresh_time(
    registry: Registry, clock: Clock, serving: Callable[[], str]
) -> None:
    assert serving() == "one"
    registry.promote("two", "production")
    clock.now += 59.9
    assert serving() == "one"
    clock.now += 0.1
    assert serving() == "two"


def test_an_expired_pointer_is_followed_and_logged(
    registry: Registry, clock: Clock, serving: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    past = "2026-01-01T00:00:00+00:00"
    registry.store.put("channels/production.json", Pointer("two", (), "", "production", 7, past).to_json())
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "two"
    assert [json.loads(record.message) for record in caplog.records] == [
        {"event": "pointer-expired", "expires_at": past}
    ]
    registry.promote("one", "production", datetime.timedelta(days=30))
    caplog.clear()
    clock.now += 60
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "one"
    assert not caplog.records


def test_a_rollback_is_followed(registry: Registry, clock: Clock, serving: Callable[[], str]) -> None:
    registry.promote("two", "production")
    assert serving() == "two"
    registry.rollback("production")
    clock.now += 60
    assert serving() == "one"


def test_the_refresh_time_restarts_with_each_refresh(
    registry: Registry, clock: Clock, serving: Callable[[], str]
) -> None:
    serving()
    clock.now += 60
    serving()
    registry.promote("two", "production")
    clock.now += 30
    assert serving() == "one"
    clock.now += 30
    assert serving() == "two"


def test_an_unchanged_channel_keeps_the_loaded_model(registry: Registry, clock: Clock) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    first = model.get()
    clock.now += 60
    assert model.get() is first


def test_without_a_refresh_time_every_call_reads_the_pointer(registry: Registry, clock: Clock) -> None:
    model = CurrentModel(Settings(registry.store.uri, None, refresh_seconds=0), clock)
    model.get()
    registry.promote("two", "production")
    assert model.get().manifest.model_id == "two"


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("models/two/float32.tflite", b"altered"),
        ("models/two/manifest.json", b"{"),
        ("channels/production.json", b"{"),
        ("channels/production.json", Pointer("three", (), "").to_json()),
    ],
    ids=["altered model", "damaged manifest", "damaged pointer", "no such version"],
)
def test_the_old_model_stays_if_the_new_one_is_damaged(
    registry: Registry,
    clock: Clock,
    serving: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
    key: str,
    content: bytes,
) -> None:
    assert serving() == "one"
    registry.promote("two", "production")
    registry.store.put(key, content)
    clock.now += 60
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "one"
        assert serving() == "one"
    (line,) = kept(caplog)
    assert line["serving"] == "one"
    assert line["reason"]


def test_the_old_model_stays_if_the_new_one_fails_its_self_test(
    registry: Registry, clock: Clock, serving: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    assert serving() == "one"
    registry.promote("two", "production")
    golden = json.loads(registry.store.get(f"models/two/{GOLDEN}").data)
    golden["expected"]["float32"][0][0] -= 0.01
    content = json.dumps(golden).encode()
    registry.store.put(f"models/two/{GOLDEN}", content)
    manifest = registry.manifest("two")
    files = {**manifest.files, GOLDEN: FileInfo(hashlib.sha256(content).hexdigest(), len(content))}
    registry.store.put("models/two/manifest.json", replace(manifest, files=files).to_json())
    clock.now += 60
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "one"
    (line,) = kept(caplog)
    assert "probability differs from the reference by 0.01" in line["reason"]


class Loads:
    """Records the ids of the versions that were loaded or tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str | None] = []
        load = Predictor.from_registry

        def from_registry(uri: str, model_id: str, **options: Any) -> Predictor:
            self.ids.append(model_id)
            return load(uri, model_id=model_id, **options)

        monkeypatch.setattr(Predictor, "from_registry", from_registry)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


def test_a_refused_model_is_not_tried_again_before_the_channel_changes(
    registry: Registry, clock: Clock, serving: Callable[[], str], loads: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    assert serving() == "one"
    good = registry.store.get("models/two/float32.tflite").data
    registry.promote("two", "production")
    registry.store.put("models/two/float32.tflite", b"altered")
    for _ in range(3):
        clock.now += 60
        assert serving() == "one"
    assert loads.ids == ["one", "two"]
    assert len(kept(caplog)) == 3
    assert [
        json.loads(record.message)["model_id"] for record in caplog.records if "model-refused" in record.message
    ] == ["two"]
    registry.store.put("models/two/float32.tflite", good)
    registry.rollback("production")
    registry.promote("two", "production")
    clock.now += 60
    assert serving() == "two"


def test_a_model_that_cannot_load_is_not_fetched_again_for_a_thousand_requests(
    registry: Registry, clock: Clock, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.store.put("models/one/float32.tflite", b"altered")
    reads: list[str] = []
    read = CurrentModel._read_pointer

    def counted(model: CurrentModel) -> Pointer:
        reads.append("pointer")
        return read(model)

    monkeypatch.setattr(CurrentModel, "_read_pointer", counted)
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    for _ in range(1000):
        with pytest.raises(BundleError):
            model.get()
        clock.now += 0.1
    assert loads.ids == ["one"]
    assert len(reads) == 8  # at 0, 0.1, 1.1, 3.1, 7.1, 15.1, 31.1 and 63.1 s
    good = registry.store.get("models/two/float32.tflite").data
    registry.store.put("models/one/float32.tflite", good)
    registry.promote("two", "production")
    clock.now += 60
    assert model.get().manifest.model_id == "two"


def test_the_wait_after_failures_is_never_longer_than_the_refresh_time(registry: Registry, clock: Clock) -> None:
    channel = registry.store.get("channels/production.json").data
    registry.store.delete("channels/production.json")
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    for _ in range(100):
        with pytest.raises(NotFoundError):
            model.get()
        clock.now += 30
    registry.store.put("channels/production.json", channel)
    clock.now += 30
    assert model.get().manifest.model_id == "one"


def test_asking_for_the_loaded_model_loads_nothing(registry: Registry, clock: Clock, loads: Loads) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    with pytest.raises(UnavailableError, match="no model is loaded yet"):
        model.loaded()
    assert loads.ids == []
    model.get()
    registry.promote("two", "production")
    clock.now += 60
    assert model.loaded().manifest.model_id == "one"
    assert loads.ids == ["one"]


def test_a_model_that_s3_failed_to_deliver_is_retried_at_each_refresh(
    trained: Trained, bucket: object, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = publish(f"s3://{BUCKET}/models", trained, "one")
    model = CurrentModel(Settings(opened.store.uri, None), clock)
    model.get()
    publish(opened.store.uri, trained, "two")
    refuse("GetObject", "SlowDown", 503, "float32.tflite")
    clock.now += 60
    assert model.get().manifest.model_id == "one"
    s3_client.cache_clear()
    clock.now += 60
    assert model.get().manifest.model_id == "two"


def test_files_of_a_killed_process_are_deleted_at_the_first_load(
    trained: Trained, bucket: object, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = publish(f"s3://{BUCKET}/models", trained, "one")
    for name in ("pinned", "older", ".transferlite-0123"):
        (tmp_path / "transferlite" / name).mkdir(parents=True)
        (tmp_path / "transferlite" / name / "float32.tflite").write_bytes(b"left by a process that was killed")
    assert CurrentModel(Settings(opened.store.uri, None), clock).get().manifest.model_id == "one"
    assert [path.name for path in (tmp_path / "transferlite").iterdir()] == ["one"]


def test_a_damaged_only_version_is_an_error_until_the_channel_changes(
    registry: Registry, clock: Clock, serving: Callable[[], str]
) -> None:
    good = registry.store.get("models/one/float32.tflite").data
    registry.store.put("models/one/float32.tflite", b"altered")
    with pytest.raises(BundleError):
        serving()
    registry.store.put("models/one/float32.tflite", good)
    with pytest.raises(BundleError):
        serving()
    registry.promote("two", "production")
    registry.rollback("production")
    clock.now += 60
    assert serving() == "one"


def test_at_start_a_damaged_version_falls_back_to_the_previous_one(
    registry: Registry, clock: Clock, serving: Callable[[], str]
) -> None:
    good = registry.store.get("models/two/float32.tflite").data
    registry.promote("two", "production")
    registry.store.put("models/two/float32.tflite", b"altered")
    assert serving() == "one"
    clock.now += 60
    assert serving() == "one"
    registry.store.put("models/two/float32.tflite", good)
    registry.rollback("production")
    registry.promote("two", "production")
    clock.now += 60
    assert serving() == "two"


def test_at_start_a_deleted_version_falls_back_to_the_previous_one(
    registry: Registry, serving: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    registry.promote("two", "production")
    registry.store.delete("models/two/manifest.json")
    with caplog.at_level(logging.ERROR, "transferlite"):
        assert serving() == "one"
    assert [
        json.loads(record.message)["model_id"] for record in caplog.records if "model-refused" in record.message
    ] == ["two"]


def test_a_missing_channel_is_an_error(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="there is no channel 'staging'"):
        CurrentModel(Settings(registry.store.uri, None, channel="staging")).get()


def test_the_current_model_stays_while_s3_is_down(
    trained: Trained, bucket: object, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    publish(f"s3://{BUCKET}/models", trained, "one")
    model = CurrentModel(Settings(f"s3://{BUCKET}/models", None), clock)
    assert model.get()(jpeg("red")).label == "red"
    refuse("GetObject", "SlowDown", 503)
    clock.now += 60
    assert model.get().manifest.model_id == "one"
    assert (tmp_path / "transferlite" / "one" / "float32.tflite").is_file()


def test_the_files_of_a_replaced_version_are_deleted(
    trained: Trained, bucket: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bucket
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = publish(f"s3://{BUCKET}/models", trained, "one")
    model = CurrentModel(Settings(opened.store.uri, None), clock)
    assert model.get().manifest.model_id == "one"
    publish(opened.store.uri, trained, "two")
    clock.now += 60
    assert model.get()(jpeg("red")).model_id == "two"
    assert [path.name for path in (tmp_path / "transferlite").iterdir()] == ["two"]


# -- versions requested by id ------------------------------------------------------------------------------------------


def test_any_version_may_be_requested_by_id(registry: Registry, clock: Clock, loads: Loads) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    assert model.get("two").manifest.model_id == "two"
    assert model.get().manifest.model_id == "one"
    assert model.get("one") is model.get()
    assert model.get("two") is model.get("two")
    assert loads.ids == ["two", "one"]


def test_a_pinned_version_is_not_loaded_again_when_promoted(registry: Registry, clock: Clock, loads: Loads) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    model.get()
    pinned = model.get("two")
    registry.promote("two", "production")
    clock.now += 60
    assert model.get() is pinned
    assert model.get("one").manifest.model_id == "one"
    assert loads.ids == ["one", "two", "one"]


@pytest.mark.parametrize("model_id", ["three", "../one", "", "x" * 200])
def test_an_invalid_or_unknown_model_id_is_an_error(model_id: str, registry: Registry) -> None:
    with pytest.raises(InputError):
        CurrentModel(Settings(registry.store.uri, None)).get(model_id)


def test_requesting_a_damaged_version_is_an_error(
    registry: Registry, clock: Clock, serving: Callable[[], str], loads: Loads
) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    registry.store.put("models/two/float32.tflite", b"altered")
    for _ in range(2):
        with pytest.raises(BundleError, match="sha256"):
            model.get("two")
    assert model.get().manifest.model_id == "one"
    assert loads.ids == ["two", "one"]


def test_only_a_few_versions_stay_in_memory_and_on_disk(
    trained: Trained, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loads: Loads
) -> None:
    assert bucket
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = publish(f"s3://{BUCKET}/models", trained, "a", "b", "c", "d")
    model = CurrentModel(Settings(opened.store.uri, None))
    assert model.get().manifest.model_id == "d"
    for model_id in ("a", "b", "a", "c"):
        assert model.get(model_id)(jpeg("red")).model_id == model_id
    assert [path.name for path in (tmp_path / "transferlite").iterdir()] == ["c"]
    assert loads.ids == ["d", "a", "b", "c"]


# -- several threads ---------------------------------------------------------------------------------------------------


def test_other_threads_use_the_old_model_while_one_loads_the_new(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CurrentModel(Settings(registry.store.uri, None), clock)
    model.get()
    registry.promote("two", "production")
    clock.now += 60
    load_started, may_finish = threading.Event(), threading.Event()
    load = Predictor.from_registry

    def slow(*arguments: Any, **options: Any) -> Predictor:
        load_started.set()
        assert may_finish.wait(30)
        return load(*arguments, **options)

    monkeypatch.setattr(Predictor, "from_registry", slow)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(model.get)
        assert load_started.wait(30)
        assert model.get().manifest.model_id == "one"
        may_finish.set()
        assert loading.result().manifest.model_id == "two"
    assert model.get().manifest.model_id == "two"


def test_threads_that_share_a_model_get_correct_predictions(trained: Trained) -> None:
    predictor = Predictor.load(trained.bundle)
    photos = [jpeg(colour, number) for number in range(20) for colour in ("red", "blue")]
    alone = [predictor(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(predictor, photos)) == alone
