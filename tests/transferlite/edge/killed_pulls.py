"""Kill updates of a model folder (SIGKILL) at each of their file operations in turn.

A program of its own, because it forks: ``python -m tests.transferlite.edge.killed_pulls FOLDER``. The process is killed
at each audit event of Python on the folder (open, rename, link, remove, list) and at each block of each download. After
each kill the folder must hold one complete model, and the next update must succeed.
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


class CountedBlocks(MemoryStore):
    """Send blocks of three bytes, and call ``step`` before each block."""

    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__()
        self._step = step

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        data = self.get(key).data
        for offset in range(start, len(data), 3):
            self._step()
            yield data[offset : offset + 3]


class Killer:
    """Count the steps of this process, and kill it at step ``last``."""

    def __init__(self) -> None:
        self.last = 0
        self.taken = 0

    def step(self) -> None:
        """Count a step, and kill the process if it is the last."""
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, folder: Path) -> None:
        """Count a step at each file operation in the folder."""
        root = str(folder)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            paths = [os.fspath(value) for value in arguments if isinstance(value, str | os.PathLike)]
            if any(path.startswith(root) for path in paths) or event in {"os.remove", "os.rmdir"}:  # rmtree: relative
                self.step()

        sys.addaudithook(hook)


def killed_at(step: int, killer: Killer, device: Path, work: Callable[[], object]) -> bool:
    """Run ``work`` in a forked process that is killed at ``step``; False if it ended before."""
    child = os.fork()
    if child == 0:
        killer.last, killer.taken = step, 0
        killer.watch(device)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"step {step} ended with {status}"
    return os.WIFSIGNALED(status)


def whole_model(device: Path) -> str | None:
    """Check the installed model as a reader does, and return its id; None if nothing is installed."""
    if not (device / CURRENT).exists():
        return None
    bundle = find_bundle(device)
    manifest = read_manifest(bundle, ed25519().public_keys)
    check_files(bundle, manifest.serving_files(manifest.tflite_variants()))
    return manifest.model_id


def killed_everywhere(
    before: Path, device: Path, registry: Registry, killer: Killer, work: Callable[[], object], allowed: set[str | None]
) -> int:
    """Kill ``work`` at each step, each time starting from the folder ``before``; return the number of steps."""
    step = 0
    killed = True
    while killed:
        step += 1
        shutil.rmtree(device, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, device)
        killed = killed_at(step, killer, device, work)
        model_id = whole_model(device)
        assert model_id in allowed, f"step {step} left {model_id}"
        result = install_current(registry, "production", device)
        assert whole_model(device) == result.model_id == "three"
        left = {path.name for path in device.iterdir()}
        assert left <= {CURRENT, "device.json", "three", "two", "one"}, f"step {step} left {left}"
        assert not list(device.rglob(".transferlite-*")), f"step {step} left temporary files"
    return step - 1


def main(folder: Path) -> None:
    """Print the number of steps at which each kind of update was killed."""
    os.fsync = lambda fd: None  # takes most of the time, and the kernel keeps what a killed process wrote
    killer = Killer()
    store = CountedBlocks(killer.step)
    owner, registry, device, before = owners(store), trusting(store), folder / "device", folder / "before"

    def follow() -> object:
        return install_current(registry, "production", device, load_check=lambda bundle: None)

    for model_id in ("one", "two", "three"):
        owner.publish(folder / model_id, write_bundle(folder / model_id, model_id))
    owner.promote("three", "production")
    steps = killed_everywhere(before, device, registry, killer, follow, {None, "three"})
    print(f"first pull: {steps}")
    pulled_before = device.rename(folder / "three-alone")
    for model_id in ("one", "two"):
        owner.promote(model_id, "production")
        install_current(registry, "production", before)
    owner.promote("three", "production")
    steps = killed_everywhere(before, device, registry, killer, follow, {"two", "three"})
    print(f"next pull, old version removed: {steps}")

    def fall_back() -> object:
        return ensure_loadable(device, lambda bundle: refuse(bundle.name == "two"))

    steps = killed_everywhere(before, device, registry, killer, fall_back, {"two", "one"})
    print(f"fallback: {steps}")
    shutil.rmtree(before)
    shutil.copytree(pulled_before, before)
    damaged = before / "three" / "int8.tflite"
    damaged.write_bytes(b"damaged")
    steps = killed_repairs(before, device, registry, killer, follow)
    print(f"repair: {steps}")


def killed_repairs(before: Path, device: Path, registry: Registry, killer: Killer, work: Callable[[], object]) -> int:
    """As :func:`killed_everywhere`, starting from a damaged model: it is refused until the update repaired it."""
    step = 0
    killed = True
    while killed:
        step += 1
        shutil.rmtree(device, ignore_errors=True)
        shutil.copytree(before, device)
        killed = killed_at(step, killer, device, work)
        try:
            assert whole_model(device) == "three"
        except BundleError:
            assert killed
        install_current(registry, "production", device)
        assert whole_model(device) == "three"
    return step - 1


def refuse(wrong: bool) -> None:
    """A load check that fails if ``wrong``."""
    if wrong:
        raise BundleError("does not load")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
