"""What happens, in its order, and what has to be true of it."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from runtime.errors import TransferLiteError
from runtime.s3 import s3_client
from simulation.faults import Faults
from simulation.function import Function, running
from simulation.ledger import Ledger
from simulation.pictures import COLOURS, photo, poison
from simulation.training import Run, train
from simulation.world import DATA, MODELS, World, new_world

_EPOCHS = ("--epochs", "8")
_ATTENDED = ("--epochs", "1", "--learning-rate", "1e-9")
"""A training that learns nothing: a challenger that is worse."""


def play(seed: int, labelled: int, uploads: int) -> tuple[Ledger, Faults]:
    """The whole loop once; returns its ledger and what was done to it.

    Args:
        seed: of the faults and of all that is left to chance.
        labelled: photos of each class to learn from.
        uploads: new photos after each change of the model.
    """
    ledger, faults = Ledger(), Faults(seed)
    with new_world(seed, faults) as world, running(world) as function:
        _Story(world, function, ledger, labelled, uploads).run()
    ledger.tell("requests to S3 and SQS", sum(faults.counts.values()))
    ledger.tell(
        "of them refused, slow, cut off", ", ".join(str(faults.counts[name]) for name in ("refused", "slow", "cut"))
    )
    return ledger, faults


class _Story:
    def __init__(self, world: World, function: Function, ledger: Ledger, labelled: int, uploads: int) -> None:
        self.world, self.function, self.ledger = world, function, ledger
        self.labelled, self.uploads = labelled, uploads
        self.garbage: list[str] = []
        self.promoted: list[str] = []
        self.withdrawn: list[str] = []

    def run(self) -> None:
        self._label("labels.csv", self.labelled)
        first = self._train("the schedule fires", "labels.csv")
        self._answer()
        self._label("labels.csv", self.labelled + max(1, self.labelled // 10))
        second = self._train("new labels", "labels.csv")
        new = 2 * max(1, self.labelled // 10)
        self.ledger.check(
            "new labels: photos that only the retrain knew", new, self._learnt(second) - self._learnt(first)
        )
        self._answer()
        self._challenge()
        self._damage()
        self._balance()

    # -- the steps ---------------------------------------------------------------------------------------------------

    def _label(self, name: str, count: int) -> None:
        rows = ["File Name,Label"]
        for label in COLOURS:
            for number in range(count):
                self.world.put(f"photos/{label}.{number}.jpg", photo(label, number))
                rows.append(f"{label}.{number}.jpg,{label}")
        self.world.put(name, "\n".join(rows).encode())

    def _train(self, why: str, labels: str) -> Run:
        run = train(self.world, labels, *_EPOCHS, kills=self.world.chance.randint(0, 2))
        self.ledger.tell(f"{why}: attempts of the job ended by", ", ".join(run.ended) or "nothing")
        self.ledger.check(f"{why}: status", 0, run.status)
        self.promoted.append(run.said["model_id"])
        self.ledger.check(f"{why}: the channel names its version", self.promoted[-1], self._channel())
        return run

    def _learnt(self, run: Run) -> int:
        return sum(self.world.registry.manifest(run.said["model_id"]).dataset["photos"].values())

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
        run = train(self.world, "labels.csv", *_ATTENDED, kills=self.world.chance.randint(0, 1))
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
        self.ledger.tell("versions that are whole", len(whole))
        pointer = self.world.registry.channel("production")
        history = [pointer.model_id, *pointer.previous]
        self.ledger.check("the channel's history, newest first", self.promoted[::-1], history)
