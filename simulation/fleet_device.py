"""One edge device of the fleet: its folder, its key file, updates that a power cut may end, and what it serves."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation.tiny_release import VARIANT, photo
from transferlite.edge.follow_channel import ChannelFollower, follow
from transferlite.errors import TransferLiteError
from transferlite.predict.predictor import Predictor

CHANNEL = "production"


@dataclass
class Device:
    """An edge device that runs ``transferlite edge run --once`` in a process of its own.

    Attributes:
        number: its number in the fleet.
        folder: the folder of its model.
        key_file: PEM file with the public keys that it accepts.
        left: versions whose withdrawal it received, as far as the simulation can know.
        serves: the version that it served after the last step; None before the first.
    """

    number: int
    folder: Path
    key_file: Path
    left: set[str] = field(default_factory=set)
    serves: str | None = None

    def poll(self, location: str, cut_at: int | None = None) -> list[str]:
        """Update once from ``location``; return the printed lines, or what ended the process.

        Args:
            location: registry, memory card or share.
            cut_at: number of the file operation at which the power is cut; None for no cut.
        """
        follower = ChannelFollower(location, CHANNEL, self.folder, VARIANT, str(self.key_file))

        def work() -> None:
            if cut_at is not None:
                _cut_power(self.folder, cut_at)
            follow(follower, None)

        lines, status = _in_child(work)
        if os.WIFSIGNALED(status):
            return [f"power cut at file operation {cut_at}"]
        return [line.replace(f"{self.folder.parent}/", "") for line in lines]

    def load(self) -> tuple[str | None, str]:
        """Load the model as a program on the device would, and predict a photo.

        Returns:
            The version that made a right prediction, or None and the reason.
        """
        try:
            prediction = Predictor.load(self.folder, VARIANT, threads=1, public_key=str(self.key_file))(photo("green"))
        except (TransferLiteError, OSError) as error:
            return None, str(error)
        return (prediction.model_id, "") if prediction.label == "green" else (None, f"predicts {prediction.label}")


def _in_child(work: Callable[[], object]) -> tuple[list[str], int]:
    """Run ``work`` in a forked process; return what it printed and its wait status."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writing, 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - flushed below, and the process ends
            work()
        except TransferLiteError:
            pass  # printed by follow()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writing)
    with open(reading) as output:  # noqa: PTH123
        lines = output.read().splitlines()
    return lines, os.waitpid(child, 0)[1]


def _cut_power(folder: Path, cut_at: int) -> None:
    """Kill this process at its ``cut_at``-th file operation in ``folder``."""
    root, count = str(folder), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        paths = (os.fspath(value) for value in arguments if isinstance(value, str | os.PathLike))
        if event in {"os.remove", "os.rmdir"} or any(path.startswith(root) for path in paths):
            count += 1
            if count == cut_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
