import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trained
from train_job.pipeline.run_json import batch_attempt, peak_memory


def test_run_json_records_features_seconds_memory_and_versions(trained: Trained) -> None:
    record = json.loads((trained.bundle / "training" / "run.json").read_text())
    assert record["model_id"] == trained.result.manifest.model_id
    assert record["dataset_sha256"] == trained.result.manifest.dataset["sha256"]
    features = record["features"]
    assert (features["fetched"], features["forwarded"], features["reused"]) == (24, 24, 0)
    assert features["engine"].startswith("litert")
    assert 0 <= features["waiting"] <= 1
    assert {"data", "features", "head", "evaluate"} <= record["seconds"].keys()
    assert all(seconds > 0 for seconds in record["seconds"].values())
    assert 2**28 < record["peak_memory_bytes"] < 2**34
    assert record["versions"]["tensorflow"]
    assert (record["seed"], record["attempt"]) == (0, 1)


def test_peak_memory_includes_a_large_allocation() -> None:
    before = peak_memory()
    block = bytearray(before + 2**27)
    block[::4096] = b"\1" * len(block[::4096])
    assert peak_memory() > before + 2**26


def test_peak_memory_excludes_the_parent_process() -> None:
    block = bytearray(2**28)
    block[::4096] = b"\1" * len(block[::4096])
    words = [sys.executable, "-c", "from train_job.pipeline.run_json import peak_memory; print(peak_memory())"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert 2**22 < int(done.stdout) < 2**27 < len(block)


@pytest.mark.parametrize(("value", "number"), [(None, 1), ("1", 1), ("3", 3), ("", 1), ("x", 1)])
def test_the_attempt_is_read_from_aws_batch(value: str | None, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BATCH_JOB_ATTEMPT", raising=False)
    if value is not None:
        monkeypatch.setenv("AWS_BATCH_JOB_ATTEMPT", value)
    assert batch_attempt() == number


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every event of a file, as lists of (step, value) by tag."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    found: dict[str, list[tuple[int, float]]] = {}
    for data in tf.data.TFRecordDataset(str(path)):
        event = event_pb2.Event.FromString(data.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def test_tensorboard_reads_the_metrics_of_each_epoch(tmp_path: Path) -> None:
    from train_job.head.recipe import Epoch
    from train_job.reporting.tensorboard import EVENTS, write_events

    write_events(tmp_path / EVENTS, [Epoch(1, 0.5, 0.25, 0.75, 0.5), Epoch(2, 0.25, 1.0)])
    found: Any = scalars(tmp_path / EVENTS)
    assert found == {
        "loss": [(1, 0.5), (2, 0.25)],
        "accuracy": [(1, 0.25), (2, 1.0)],
        "val_loss": [(1, 0.75)],
        "val_accuracy": [(1, 0.5)],
    }
    assert [path.name for path in (tmp_path / EVENTS).parent.iterdir()] == ["events.out.tfevents"]


def test_a_version_contains_tensorboard_events_and_the_heads_weights(trained: Trained) -> None:
    from train_job.head.checkpoint import from_npz

    assert len(scalars(trained.bundle / "training/tensorboard/events.out.tfevents")["loss"]) == 10
    head = from_npz((trained.bundle / "training" / "head.npz").read_bytes())
    assert head["hidden_kernel"].shape == (1280, 1024)
    assert head["probabilities_bias"].shape == (2,)
