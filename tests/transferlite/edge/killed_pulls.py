"""Updates of a device's folder whose process is killed (SIGKILL) at each of its file operations in turn.

Run as a program, for it forks: ``python -m tests.transferlite.edge.killed_pulls FOLDER``. Every operation on the
folder that
Python announces (opening, renaming, linking, removing, listing: its audit events) is a place to die, and so is each
block of each download. After each death the folder has to stand for one whole model, and the next update has to end.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, owners, trusting
from transferlite.edge.install import ensure_loadable, install_current
from transferlite.errors import BundleError
from transferlite.registry.local_bundle import CURRENT, check_files, find_bundle, read_manifest
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore

Step = Callable[[], None]


class CountedBlocks(MemoryStore):
    """Sends three bytes at a time; before each, ``step`` may be the last."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self._step = step

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        data = self.get(key).data
        for place in range(start, len(data), 3):
            self._step()
            yield data[place : place + 3]


class Mortal:
    """Counts the steps of this process, and kills it at the ``last``."""

    def __init__(self) -> None:
        self.last = 0
        self.taken = 0

    def step(self) -> None:
        """One step more."""
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, folder: Path) -> None:
        """Take a step at each operation on what is in the folder."""
        root = str(folder)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            named = any(isinstance(one, str | os.PathLike) and os.fspath(one).startswith(root) for one in arguments)
            if named or event in {"os.remove", "os.rmdir"}:  # rmtree names what is in an open folder
                self.step()

        sys.addaudithook(hook)


def dies_at(step: int, mortal: Mortal, device: Path, work: Callable[[], object]) -> bool:
    """Whether ``work`` in a process of its own came as far as that step."""
    child = os.fork()
    if child == 0:
        mortal.last, mortal.taken = step, 0
        mortal.watch(device)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"step {step} ended with {status}"
    return os.WIFSIGNALED(status)


def whole_model(device: Path) -> str | None:
    """The id of the model that the folder stands for, after every look at it that a reader takes; None for none."""
    if not (device / CURRENT).exists():
        return None
    bundle = find_bundle(device)
    manifest = read_manifest(bundle, ed25519().public_keys)
    check_files(bundle, manifest.serving_files(manifest.tflite_variants()))
    return manifest.model_id


def killed_everywhere(
    before: Path, device: Path, registry: Registry, mortal: Mortal, work: Callable[[], object], allowed: set[str | None]
) -> int:
    """Kill ``work`` at each step, each time from the state ``before``. Returns how many steps there were."""
    step = 0
    died = True
    while died:
        step += 1
        shutil.rmtree(device, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, device)
        died = dies_at(step, mortal, device, work)
        found = whole_model(device)
        assert found in allowed, f"step {step} left {found}"
        after = install_current(registry, "production", device)
        assert whole_model(device) == after.model_id == "three"
        left = {path.name for path in device.iterdir()}
        assert left <= {CURRENT, "device.json", "three", "two", "one"}, f"step {step} left {left}"
        assert not list(device.rglob(".transferlite-*")), f"step {step} left parts"
    return step - 1


def main(folder: Path) -> None:
    """Print, for each kind of update, at how many places it was killed."""
    os.fsync = lambda fd: None  # what a killed process wrote the kernel has; and it takes most of the time
    mortal = Mortal()
    store = CountedBlocks(mortal.step)
    owner, registry, device, before = owners(store), trusting(store), folder / "device", folder / "before"

    def follow() -> object:
        return install_current(registry, "production", device, prove=lambda bundle: None)

    for model_id in ("one", "two", "three"):
        owner.publish(folder / model_id, write_bundle(folder / model_id, model_id))
    owner.promote("three", "production")
    steps = killed_everywhere(before, device, registry, mortal, follow, {None, "three"})
    print(f"first pull: {steps}")
    pulled_before = device.rename(folder / "three-alone")
    for model_id in ("one", "two"):
        owner.promote(model_id, "production")
        install_current(registry, "production", before)
    owner.promote("three", "production")
    steps = killed_everywhere(before, device, registry, mortal, follow, {"two", "three"})
    print(f"next pull, one before removed: {steps}")

    def back() -> object:
        return ensure_loadable(device, lambda bundle: refuse(bundle.name == "two"))

    steps = killed_everywhere(before, device, registry, mortal, back, {"two", "one"})
    print(f"going back: {steps}")
    damaged = before / "two" / "int8.tflite"
    shutil.rmtree(before)
    shutil.copytree(pulled_before, before)
    damaged = before / "three" / "int8.tflite"
    damaged.write_bytes(b"damaged")
    steps = killed_healing(before, device, registry, mortal, follow)
    print(f"healing: {steps}")


def killed_healing(before: Path, device: Path, registry: Registry, mortal: Mortal, work: Callable[[], object]) -> int:
    """As :func:`killed_everywhere`, from a folder whose model is damaged: until it is mended, it is refused."""
    step = 0
    died = True
    while died:
        step += 1
        shutil.rmtree(device, ignore_errors=True)
        shutil.copytree(before, device)
        died = dies_at(step, mortal, device, work)
        try:
            assert whole_model(device) == "three"
        except BundleError:
            assert died
        install_current(registry, "production", device)
        assert whole_model(device) == "three"
    return step - 1


def refuse(wrong: bool) -> None:
    """A loader that finds the model bad."""
    if wrong:
        raise BundleError("does not load")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
