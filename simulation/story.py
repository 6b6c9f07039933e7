"""What happens, in its order, and what has to be true of it."""

import csv
import io
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from simulation.faults import NAMES, Faults
from simulation.function import Function, running
from simulation.ledger import Ledger
from simulation.pictures import COLOURS, photo, poison
from simulation.training import Run, run_training
from simulation.world import DATA, MODELS, World, new_world
from transferlite.errors import TransferLiteError
from transferlite.storage.s3_boto3 import s3_client

_LEARNS_NOTHING = ("--epochs", "1", "--learning-rate", "1e-9")
"""A training's options that make a challenger which is worse."""


def play(seed: int, labelled: int, uploads: int, *options: str) -> tuple[Ledger, Faults]:
    """The whole loop once; returns its ledger and what was done to it.

    Args:
        seed: of the faults and of all that is left to chance.
        labelled: photos of each class to learn from.
        uploads: new photos after each change of the model.
        options: more of every training's.
    """
    ledger, faults = Ledger(), Faults(seed)
    with new_world(seed, faults) as world, running(world) as function:
        _Story(world, function, ledger, labelled, uploads, options).run()
    ledger.tell("requests to S3 and SQS", sum(faults.counts.values()))
    ledger.tell(f"of them {', '.join(NAMES)}", ", ".join(str(faults.counts[name]) for name in NAMES))
    return ledger, faults


class _Story:
    def __init__(
        self, world: World, function: Function, ledger: Ledger, labelled: int, uploads: int, options: tuple[str, ...]
    ) -> None:
        self.world, self.function, self.ledger = world, function, ledger
        self.labelled, self.uploads, self.options = labelled, uploads, options
        self.rows: list[str] = []
        self.garbage: list[str] = []
        self.promoted: list[str] = []
        self.published: list[str] = []
        self.withdrawn: list[str] = []

    def run(self) -> None:
        self._label_first()
        self._train("the schedule fires", 2 * self.labelled, photos_per_shard=self.labelled + 1)
        self._answer()
        new = self._label_answered()
        self._wait_for_more(new)
        self._train("new labels", new, new_labels=new)
        self._answer()
        self._challenge()
        self._damage()
        self._balance()

    # -- the steps ---------------------------------------------------------------------------------------------------

    def _label(self, name: str, data: bytes, label: str) -> None:
        self.world.put(f"photos/{name}", data)
        self.rows.append(f"{name},{label}")
        self.world.put("labels.csv", "\n".join(["File Name,Label", *self.rows]).encode())

    def _label_first(self) -> None:
        for label in COLOURS:
            for number in range(self.labelled):
                self._label(f"{label}.{number}.jpg", photo(label, number), label)
        self._label("broken.jpg", poison(self.world.chance, 0), "red")

    def _label_answered(self) -> int:
        """People label some of the photos that were answered; returns how many."""
        each = max(1, self.labelled // 10)
        for label in COLOURS:
            answered = [key for key, true in self.world.good.items() if true == label][:each]
            for number, key in enumerate(answered):
                self._label(f"answered.{label}.{number}.jpg", self.world.read(key), label)
        return sum(row.startswith("answered.") for row in self.rows)

    def _train(self, why: str, new: int, **given: int) -> None:
        run = run_training(self.world, *self.options, kills=self.world.chance.randint(0, 2), **given)
        self._tell(why, run)
        self.ledger.check(f"{why}: status", 0, run.status)
        self.promoted.append(run.said["model_id"])
        self.published.append(run.said["model_id"])
        self.ledger.check(f"{why}: the channel names its version", self.promoted[-1], self._channel())
        self.ledger.check(f"{why}: photos learnt", len(self.rows) - 1, self._photos_of(self.promoted[-1]))
        self.ledger.check(f"{why}: photos quarantined", ["photos/broken.jpg"], self._quarantined(self.promoted[-1]))
        again = max(0, self._run_of(self.promoted[-1])["features"]["forwarded"] - new)
        self.ledger.check(f"{why}: photos forwarded a second time", 0, again)

    def _tell(self, why: str, run: Run) -> None:
        self.ledger.tell(f"{why}: Spot took the machine", "; ".join(run.ended) or "never")
        self.ledger.tell(f"{why}: machines for the rows", run.shards or 1)
        self.ledger.check(f"{why}: attempts that failed by themselves", [], run.failed)

    def _wait_for_more(self, new: int) -> None:
        run = run_training(self.world, kills=0, new_labels=new + 1)
        self.ledger.check("too few new labels: something is trained", False, run.status is not None)

    def _photos_of(self, model_id: str) -> int:
        return sum(self.world.registry.manifest(model_id).dataset["photos"].values())

    def _run_of(self, model_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._record(model_id, "run.json"))
        return found

    def _quarantined(self, model_id: str) -> list[str]:
        rows = csv.DictReader(io.StringIO(self._record(model_id, "quarantine.csv").decode()))
        return sorted(row["uri"].removeprefix(f"s3://{DATA}/") for row in rows)

    def _record(self, model_id: str, name: str) -> bytes:
        return self.world.registry.store.get(f"models/{model_id}/training/{name}").data

    def _answer(self, kills: int = 2) -> None:
        """Photos come, some of them twice, some of them none; the function answers and is killed at it."""
        chance, before = self.world.chance, len(self.world.good) + len(self.world.bad)
        for number in range(before, before + self.uploads):
            label = chance.choice(list(COLOURS))
            key = f"incoming/{chance.choice(['a b', 'c+d', 'ä%20'])}/{number}.jpg"
            if chance.random() < 0.1:
                self.world.upload(key, poison(chance, number), None)
            else:
                self.world.upload(key, photo(label, 1000 + number), label)
            if chance.random() < 0.1:
                self.world.repeat(key)
        self.garbage.append(f"no event, number {before}")
        self.world.send(self.garbage[-1])
        self.function.drain(kills)

    def _challenge(self) -> None:
        run = run_training(self.world, *self.options, *_LEARNS_NOTHING, kills=self.world.chance.randint(0, 1))
        self._tell("challenger", run)
        self.published.append(run.said["model_id"])
        self.ledger.check("challenger: refused with status", 3, run.status)
        self.ledger.check("challenger: the channel names the same version", self.promoted[-1], self._channel())

    def _damage(self) -> None:
        """A version whose file was damaged is promoted by hand: the function refuses it, and the channel goes back."""
        good = self._channel()
        bad = f"{good}-damaged"
        with tempfile.TemporaryDirectory() as folder:
            bundle = self.world.registry.pull(good, Path(folder))
            manifest = (bundle / "manifest.json").read_bytes().replace(good.encode(), bad.encode())
            model = bytearray((bundle / "float32.tflite").read_bytes())
            model[self.world.chance.randrange(len(model))] ^= 0xFF
            prefix = f"registry/models/{bad}"
            for path in (one for one in bundle.rglob("*") if one.is_file() and one.name != "manifest.json"):
                body = bytes(model) if path.name == "float32.tflite" else path.read_bytes()
                s3_client().put_object(Bucket=MODELS, Key=f"{prefix}/{path.relative_to(bundle).as_posix()}", Body=body)
            s3_client().put_object(Bucket=MODELS, Key=f"{prefix}/manifest.json", Body=manifest)
        self.world.registry.promote(bad, "production")
        self.withdrawn.append(bad)
        self._answer(kills=1)
        self.ledger.check("damaged version: gone back to", good, self.world.registry.rollback("production").model_id)
        self._answer(kills=0)

    # -- the balance -------------------------------------------------------------------------------------------------

    def _channel(self) -> str:
        return self.world.registry.channel("production").model_id

    def _balance(self) -> None:
        world, ledger = self.world, self.ledger
        records = Counter(record["image"] for record in world.records())
        by_image = {record["image"]: record for record in world.records()}
        good = {f"s3://{DATA}/{key}": label for key, label in world.good.items()}
        bad = {f"s3://{DATA}/{key}" for key in world.bad}
        ledger.tell("workers killed in the middle of their work", self.function.killed)
        ledger.check("photos uploaded, and photos with a record", len(good) + len(bad), len(records))
        ledger.check("photos with more than one record", 0, sum(count > 1 for count in records.values()))
        ledger.check(
            "usable photos with a prediction", len(good), sum("label" in by_image.get(one, {}) for one in good)
        )
        ledger.check(
            "unusable photos with an error record", len(bad), sum("error" in by_image.get(one, {}) for one in bad)
        )
        named = {record["model_id"] for record in by_image.values()}
        ledger.check(
            "answers by a version that was never promoted, or is damaged", [], sorted(named - set(self.promoted))
        )
        right = sum(by_image.get(one, {}).get("label") == label for one, label in good.items())
        ledger.tell("predictions that are right", f"{right} of {len(good)}")
        ledger.check("messages left in the queue", 0, world.waiting())
        ledger.check(
            "dead letters: what was no event, and nothing else", sorted(self.garbage), sorted(world.dead_letters())
        )
        self._versions()

    def _versions(self) -> None:
        """Every version with a manifest is whole, but for the damaged one; each job promoted once."""
        torn, whole = [], []
        for manifest in self.world.registry.versions():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    self.world.registry.pull(manifest.model_id, Path(folder), [*manifest.variants])
                    whole.append(manifest)
                except TransferLiteError:
                    torn.append(manifest.model_id)
                shutil.rmtree(folder, ignore_errors=True)
        self.ledger.check("versions that are not whole", self.withdrawn, torn)
        left = {one.model_id for one in whole} - set(self.published)
        self.ledger.check(
            "jobs whose version is not whole", [], sorted(set(self.published) - {*(one.model_id for one in whole)})
        )
        self.ledger.tell("whole versions of attempts that were killed before they could promote them", len(left))
        pointer = self.world.registry.channel("production")
        history = [pointer.model_id, *pointer.previous]
        self.ledger.check("the channel's history, newest first", self.promoted[::-1], history)
