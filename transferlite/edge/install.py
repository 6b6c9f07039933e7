"""The model on a device: a folder that follows a channel, with one whole model in it at every moment.

::

    DEST/current.json       the Pointer of the version that the folder stands for: replaced in one step, last
    DEST/<model_id>/        that version, and the one before
    DEST/device.json        what the device remembers: see :class:`DeviceMemory`

Whatever moment the process dies or the power is cut, the folder stands for the old version or for the new, and the next
call goes on from there.
"""

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transferlite.errors import BundleError, NotFoundError, UntrustedError
from transferlite.registry.channel_pointer import Pointer, check_newer
from transferlite.registry.local_bundle import CURRENT, read_manifest
from transferlite.registry.manifest import MANIFEST, is_model_id
from transferlite.registry.memory_card import BundleFolder
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import TEMPORARY_PREFIX, folder_lock, translate_os_errors, write_durably

MEMORY = "device.json"
_TRIES = 3
"""How often a version whose files arrive damaged is fetched before it is given up."""

LoadCheck = Callable[[Path], object]
"""Loads a bundle as it will serve. Raises BundleError where it cannot."""


@dataclass(frozen=True)
class RefusedVersion:
    """A version that was given up, or is about to be: what the channel said, and why it was not taken."""

    model_id: str
    sequence: int
    reason: str
    tries: int

    @property
    def final(self) -> bool:
        """Whether it is not tried again as long as the channel says the same."""
        return self.tries >= _TRIES


@dataclass(frozen=True)
class DeviceMemory:
    """What a device remembers.

    Attributes:
        sequences: by channel, the highest sequence of a pointer that was taken: an older one is a replay.
        versions: the model ids whose folders were begun here, so that nobody else's folder is ever removed.
        previous: the pointer of the version before.
        refused: the last version that was not taken.
    """

    sequences: dict[str, int] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    previous: Pointer | None = None
    refused: RefusedVersion | None = None

    def to_json(self) -> bytes:
        """The content of ``device.json``."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "DeviceMemory":
        """Read what :meth:`to_json` wrote. Raises BundleError when it is damaged."""
        try:
            raw: Any = json.loads(data)
            previous = Pointer.from_json(json.dumps(raw["previous"]).encode()) if raw["previous"] else None
            refused = RefusedVersion(**raw["refused"]) if raw["refused"] else None
            sequences = {str(name): int(value) for name, value in raw["sequences"].items()}
            return cls(sequences, tuple(filter(is_model_id, raw["versions"])), previous, refused)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, BundleError) as error:
            raise BundleError(f"the device's memory cannot be read ({error})") from None


@dataclass(frozen=True)
class InstallResult:
    """The version that a folder stands for now, and the one that it stood for before the call."""

    bundle: Path
    model_id: str
    before: str | None

    @property
    def changed(self) -> bool:
        """Whether the call changed it."""
        return self.model_id != self.before


class RefusedError(BundleError):
    """The channel still names a version that this device has given up."""


def install_current(
    registry: Registry,
    channel: str,
    folder: Path,
    variants: Iterable[str] | None = None,
    prove: LoadCheck | None = None,
    insist: bool = True,
) -> InstallResult:
    """Have ``folder`` stand for what ``channel`` names. On any error it stands for what it stood for.

    Args:
        registry: where to pull from; what it accepts is in its ``keys``.
        channel: which pointer to follow; a bundle alone on a memory card has none, and is taken itself.
        folder: of the device.
        variants: which TFLite files; all by default.
        prove: called with the pulled bundle before it is taken.
        insist: also try a version that was given up.

    Raises:
        UntrustedError: a signature that is missing, wrong or of another key; a pointer older than one taken before.
        BundleError: the version is damaged, or ``prove`` refuses it.
        RefusedError: it was given up before.
        TransferLiteError: whatever else the store says.
    """
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        current = read_current(folder)
        memory = read_memory(folder, current)
        pointer = _asked(registry, channel, memory, current, folder)
        if not insist:
            _check_given_up(memory.refused, pointer)
        if pointer.model_id not in memory.versions:
            memory = _remember(folder, replace(memory, versions=(*memory.versions, pointer.model_id)))
        kept = [old.model_id for old in (current, memory.previous) if old and old.model_id != pointer.model_id]
        try:
            bundle = registry.pull(pointer.model_id, folder, variants, [folder / model_id for model_id in kept])
        except UntrustedError:
            raise
        except BundleError as error:
            _refuse(folder, memory, pointer, str(error), 1)
            raise
        if prove:
            _proven(folder, memory, current, pointer, prove)
        if registry.keys is not None:
            highest = max(pointer.sequence, memory.sequences.get(channel, 0))
            memory = replace(memory, sequences={**memory.sequences, channel: highest})
        _switch(folder, memory, current, pointer)
    return InstallResult(bundle, pointer.model_id, current.model_id if current else None)


def ensure_loadable(folder: Path, prove: LoadCheck) -> str | None:
    """Have ``folder`` stand for a version that can be loaded: its own, or else the one before, if there is one.

    Returns:
        The model id that it went back from; None where nothing had to be done.

    Raises:
        TransferLiteError: neither can be loaded.
    """
    with folder_lock(folder):
        current = read_current(folder)
        if current is None:
            raise NotFoundError("no model has been pulled yet", where=str(folder))
        try:
            prove(folder / current.model_id)
            return None
        except (BundleError, NotFoundError):
            previous = read_memory(folder, current).previous
            if previous is None or previous.model_id == current.model_id:
                raise
            prove(folder / previous.model_id)
        write_durably(folder / CURRENT, previous.to_json())
        return current.model_id


def read_current(folder: Path) -> Pointer | None:
    """The pointer of the version that the folder stands for; None where there is none, or none that can be read."""
    try:
        return Pointer.from_json((folder / CURRENT).read_bytes(), str(folder / CURRENT))
    except (FileNotFoundError, BundleError):
        return None


def read_memory(folder: Path, current: Pointer | None) -> DeviceMemory:
    """What the device remembers; where that is gone or damaged, what ``current`` tells, for it has to go on."""
    try:
        return DeviceMemory.from_json((folder / MEMORY).read_bytes())
    except (FileNotFoundError, BundleError):
        return DeviceMemory({current.channel: current.sequence}) if current and current.signature else DeviceMemory()


def _remember(folder: Path, memory: DeviceMemory) -> DeviceMemory:
    write_durably(folder / MEMORY, memory.to_json())
    return memory


# -- what is asked for -----------------------------------------------------------------------------------------------


def _asked(registry: Registry, channel: str, memory: DeviceMemory, current: Pointer | None, folder: Path) -> Pointer:
    """The pointer to follow. Raises UntrustedError for one that is older than what was taken."""
    if isinstance(registry.store, BundleFolder):
        return _of_bundle(registry, registry.store.model_id, channel, current, folder)
    pointer = registry.channel(channel)
    if registry.keys is not None:
        check_newer(pointer, memory.sequences.get(channel, 0), f"{registry.store.uri}, channel {channel}")
    return pointer


def _of_bundle(registry: Registry, model_id: str, channel: str, current: Pointer | None, folder: Path) -> Pointer:
    """A bundle alone has no pointer that says it is meant: with keys, it may not be older than the one there is."""
    made = registry.manifest(model_id).created_at
    if registry.keys is not None and current is not None and (folder / current.model_id / MANIFEST).is_file():
        there = read_manifest(folder / current.model_id).created_at
        if _moment(made) < _moment(there):
            raise UntrustedError(
                f"was made {made}, before the one that is on the device ({there})",
                where=registry.store.uri,
                hint="bring a registry, or a folder that models pull has filled, whose channel names it",
            )
    return Pointer(model_id, (), made, channel)


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BundleError(f"was made {text!r}, which is no time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


# -- what is refused -------------------------------------------------------------------------------------------------


def _check_given_up(refused: RefusedVersion | None, pointer: Pointer) -> None:
    if refused and refused.final and (refused.model_id, refused.sequence) == (pointer.model_id, pointer.sequence):
        raise RefusedError(
            f"{pointer.model_id} was refused before: {refused.reason}",
            hint="it is not tried again until the channel changes, or somebody runs transferlite models pull",
        )


def _proven(folder: Path, memory: DeviceMemory, current: Pointer | None, pointer: Pointer, prove: LoadCheck) -> None:
    """Have the pulled version loaded. A new one is held for bad until it is, for it may end the process."""
    new = current is None or current.model_id != pointer.model_id
    if new:
        _refuse(folder, memory, pointer, "the process ended while it was loaded", 1)
    try:
        prove(folder / pointer.model_id)
    except BundleError as error:
        _refuse(folder, memory, pointer, str(error), _TRIES)
        if new:
            _remove(folder / pointer.model_id)
        raise


def _refuse(folder: Path, memory: DeviceMemory, pointer: Pointer, reason: str, tries: int) -> None:
    old = memory.refused
    again = old is not None and (old.model_id, old.sequence) == (pointer.model_id, pointer.sequence)
    tries += old.tries if again and old else 0
    _remember(folder, replace(memory, refused=RefusedVersion(pointer.model_id, pointer.sequence, reason, tries)))


# -- what is taken ---------------------------------------------------------------------------------------------------


def _switch(folder: Path, memory: DeviceMemory, current: Pointer | None, pointer: Pointer) -> None:
    """Remember, point to the new version, then clean: in this order each step can be the last."""
    previous = memory.previous if current is None or current.model_id == pointer.model_id else current
    memory = replace(memory, previous=previous, refused=None)
    if memory != read_memory(folder, current):
        _remember(folder, memory)
    if current != pointer:
        write_durably(folder / CURRENT, pointer.to_json())
    kept = {pointer.model_id} | ({previous.model_id} if previous else set())
    for model_id in memory.versions:
        if model_id not in kept:
            _remove(folder / model_id)
    if set(memory.versions) - kept:
        _remember(folder, replace(memory, versions=tuple(one for one in memory.versions if one in kept)))
    for leftover in _leftovers(folder, kept):
        leftover.unlink(missing_ok=True)


def _remove(bundle: Path) -> None:
    with suppress(FileNotFoundError):
        (bundle / MANIFEST).unlink()  # first: what is half removed is no bundle
    shutil.rmtree(bundle, ignore_errors=True)


def _leftovers(folder: Path, kept: Iterable[str]) -> Iterator[Path]:
    """Files of writes that were cut."""
    yield from folder.glob(f"{TEMPORARY_PREFIX}*")
    for model_id in kept:
        yield from (folder / model_id).rglob(f"{TEMPORARY_PREFIX}*")
