"""Scenario of the simulation: the steps in order, and the checks of each."""

import csv
import io
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from simulation.account import DATA, MODELS, Account, create_account
from simulation.faults import NAMES, Faults
from simulation.ledger import Ledger
from simulation.photos import COLOURS, make_photo, make_unusable_file
from simulation.training import TrainingRun, run_training
from simulation.worker_pool import WorkerPool, worker_pool
from transferlite.errors import TransferLiteError
from transferlite.storage.s3_boto3 import s3_client

_NO_LEARNING = ("--epochs", "1", "--learning-rate", "1e-9")
"""Options of a training whose model is worse than the current one."""


def run_scenario(seed: int, labelled: int, uploads: int, *options: str) -> tuple[Ledger, Faults]:
    """Run the scenario once; return its ledger and the faults that occurred.

    Args:
        seed: seed of the faults and of every other random choice.
        labelled: photos per class in the first training.
        uploads: photos uploaded after each change of the model.
        options: further options of every training.
    """
    ledger, faults = Ledger(), Faults(seed)
    with create_account(seed, faults) as account, worker_pool(account) as pool:
        _Scenario(account, pool, ledger, labelled, uploads, options).run()
    ledger.note("requests to S3 and SQS", sum(faults.counts.values()))
    ledger.note(f"faults: {', '.join(NAMES)}", ", ".join(str(faults.counts[name]) for name in NAMES))
    return ledger, faults


class _Scenario:
    def __init__(
        self,
        account: Account,
        pool: WorkerPool,
        ledger: Ledger,
        labelled: int,
        uploads: int,
        options: tuple[str, ...],
    ) -> None:
        self.account, self.pool, self.ledger = account, pool, ledger
        self.labelled, self.uploads, self.options = labelled, uploads, options
        self.label_rows: list[str] = []
        self.invalid_messages: list[str] = []
        self.promoted: list[str] = []
        self.published: list[str] = []
        self.damaged: list[str] = []

    def run(self) -> None:
        self._add_first_labels()
        self._train("first training", 2 * self.labelled, photos_per_shard=self.labelled + 1)
        self._upload_photos()
        new_labels = self._label_predicted_photos()
        self._check_that_too_few_labels_train_nothing(new_labels)
        self._train("retraining", new_labels, new_labels=new_labels)
        self._upload_photos()
        self._train_worse_version()
        self._promote_damaged_version()
        self._check_totals()

    # -- steps -------------------------------------------------------------------------------------------------------

    def _add_label(self, name: str, data: bytes, label: str) -> None:
        self.account.put(f"photos/{name}", data)
        self.label_rows.append(f"{name},{label}")
        self.account.put("labels.csv", "\n".join(["File Name,Label", *self.label_rows]).encode())

    def _add_first_labels(self) -> None:
        for label in COLOURS:
            for number in range(self.labelled):
                self._add_label(f"{label}.{number}.jpg", make_photo(label, number), label)
        self._add_label("broken.jpg", make_unusable_file(self.account.rng, 0), "red")

    def _label_predicted_photos(self) -> int:
        """Label some of the uploaded photos, as people would; return their number."""
        per_class = max(1, self.labelled // 10)
        for label in COLOURS:
            keys = [key for key, true_label in self.account.usable.items() if true_label == label][:per_class]
            for number, key in enumerate(keys):
                self._add_label(f"uploaded.{label}.{number}.jpg", self.account.read(key), label)
        return sum(row.startswith("uploaded.") for row in self.label_rows)

    def _train(self, name: str, new_photos: int, **options: int) -> None:
        run = run_training(self.account, *self.options, kills=self.account.rng.randint(0, 2), **options)
        self._check_jobs(name, run)
        self.ledger.check(f"{name}: exit status", 0, run.status)
        model_id = run.output["model_id"]
        self.promoted.append(model_id)
        self.published.append(model_id)
        self.ledger.check(f"{name}: version of the channel", model_id, self._channel_version())
        self.ledger.check(f"{name}: photos trained on", len(self.label_rows) - 1, self._count_photos(model_id))
        self.ledger.check(f"{name}: photos quarantined", ["photos/broken.jpg"], self._quarantined(model_id))
        repeated = max(0, self._run_record(model_id)["features"]["forwarded"] - new_photos)
        self.ledger.check(f"{name}: photos run through the backbone again", 0, repeated)

    def _check_jobs(self, name: str, run: TrainingRun) -> None:
        self.ledger.note(f"{name}: Spot interruptions", "; ".join(run.interruptions) or "none")
        self.ledger.note(f"{name}: machines that extract features", run.shards or 1)
        self.ledger.check(f"{name}: attempts that failed by themselves", [], run.failures)

    def _check_that_too_few_labels_train_nothing(self, new_labels: int) -> None:
        run = run_training(self.account, kills=0, new_labels=new_labels + 1)
        self.ledger.check("too few new labels: training started", False, run.status is not None)

    def _count_photos(self, model_id: str) -> int:
        return sum(self.account.registry.manifest(model_id).dataset["photos"].values())

    def _run_record(self, model_id: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._training_file(model_id, "run.json"))
        return record

    def _quarantined(self, model_id: str) -> list[str]:
        rows = csv.DictReader(io.StringIO(self._training_file(model_id, "quarantine.csv").decode()))
        return sorted(row["uri"].removeprefix(f"s3://{DATA}/") for row in rows)

    def _training_file(self, model_id: str, name: str) -> bytes:
        return self.account.registry.store.get(f"models/{model_id}/training/{name}").data

    def _upload_photos(self, kills: int = 2) -> None:
        """Upload photos, some unusable, repeat some events, and have workers label them while some are killed."""
        account, rng = self.account, self.account.rng
        first = len(account.usable) + len(account.unusable)
        for number in range(first, first + self.uploads):
            label = rng.choice(list(COLOURS))
            key = f"incoming/{rng.choice(['a b', 'c+d', 'ä%20'])}/{number}.jpg"
            if rng.random() < 0.1:
                account.upload(key, make_unusable_file(rng, number), None)
            else:
                account.upload(key, make_photo(label, 1000 + number), label)
            if rng.random() < 0.1:
                account.repeat_event(key)
        self.invalid_messages.append(f"not an event, number {first}")
        account.send(self.invalid_messages[-1])
        self.pool.drain(kills)

    def _train_worse_version(self) -> None:
        run = run_training(self.account, *self.options, *_NO_LEARNING, kills=self.account.rng.randint(0, 1))
        self._check_jobs("worse version", run)
        self.published.append(run.output["model_id"])
        self.ledger.check("worse version: exit status (not promoted)", 3, run.status)
        self.ledger.check("worse version: version of the channel", self.promoted[-1], self._channel_version())

    def _promote_damaged_version(self) -> None:
        """Promote a version with a damaged file by hand; the function refuses it, and the channel is rolled back."""
        current_id = self._channel_version()
        damaged_id = f"{current_id}-damaged"
        self._publish_damaged_copy(current_id, damaged_id)
        self.account.registry.promote(damaged_id, "production")
        self.damaged.append(damaged_id)
        self._upload_photos(kills=1)
        rolled_back_to = self.account.registry.rollback("production").model_id
        self.ledger.check("damaged version: rolled back to", current_id, rolled_back_to)
        self._upload_photos(kills=0)

    def _publish_damaged_copy(self, model_id: str, damaged_id: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            bundle = self.account.registry.pull(model_id, Path(folder))
            manifest = (bundle / "manifest.json").read_bytes().replace(model_id.encode(), damaged_id.encode())
            model = bytearray((bundle / "float32.tflite").read_bytes())
            model[self.account.rng.randrange(len(model))] ^= 0xFF
            prefix = f"registry/models/{damaged_id}"
            for path in (path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json"):
                body = bytes(model) if path.name == "float32.tflite" else path.read_bytes()
                s3_client().put_object(Bucket=MODELS, Key=f"{prefix}/{path.relative_to(bundle).as_posix()}", Body=body)
            s3_client().put_object(Bucket=MODELS, Key=f"{prefix}/manifest.json", Body=manifest)

    # -- final checks ------------------------------------------------------------------------------------------------

    def _channel_version(self) -> str:
        return self.account.registry.channel("production").model_id

    def _check_totals(self) -> None:
        account, ledger = self.account, self.ledger
        records = account.records()
        by_image = {record["image"]: record for record in records}
        counts = Counter(record["image"] for record in records)
        usable = {f"s3://{DATA}/{key}": label for key, label in account.usable.items()}
        unusable = {f"s3://{DATA}/{key}" for key in account.unusable}
        ledger.note("workers killed during a batch", self.pool.killed)
        ledger.check("uploaded photos with a record", len(usable) + len(unusable), len(counts))
        ledger.check("photos with more than one record", 0, sum(count > 1 for count in counts.values()))
        predicted = sum("label" in by_image.get(uri, {}) for uri in usable)
        ledger.check("usable photos with a prediction", len(usable), predicted)
        rejected = sum("error" in by_image.get(uri, {}) for uri in unusable)
        ledger.check("unusable photos with an error record", len(unusable), rejected)
        used = {record["model_id"] for record in records}
        ledger.check("records by a damaged or unpromoted version", [], sorted(used - set(self.promoted)))
        correct = sum(by_image.get(uri, {}).get("label") == label for uri, label in usable.items())
        ledger.note("correct predictions", f"{correct} of {len(usable)}")
        ledger.check("messages left in the queue", 0, account.count_messages())
        ledger.check("dead letters", sorted(self.invalid_messages), sorted(account.dead_letters()))
        self._check_versions()

    def _check_versions(self) -> None:
        """Check that every version with a manifest is complete, and that the channel's history is as expected."""
        complete, damaged = set(), []
        for manifest in self.account.registry.versions():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    self.account.registry.pull(manifest.model_id, Path(folder), [*manifest.variants])
                    complete.add(manifest.model_id)
                except TransferLiteError:
                    damaged.append(manifest.model_id)
                shutil.rmtree(folder, ignore_errors=True)
        published = set(self.published)
        self.ledger.check("damaged versions", self.damaged, damaged)
        self.ledger.check("published versions that are not complete", [], sorted(published - complete))
        self.ledger.note("complete versions of attempts killed before promotion", len(complete - published))
        pointer = self.account.registry.channel("production")
        history = [pointer.model_id, *pointer.previous]
        self.ledger.check("history of the channel, newest first", self.promoted[::-1], history)
