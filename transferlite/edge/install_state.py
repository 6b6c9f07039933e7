"""State of a model folder on an edge device: the file ``device.json`` next to the installed versions."""

import datetime
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from transferlite.errors import BundleError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT
from transferlite.registry.manifest import is_model_id
from transferlite.storage.atomic_write import write_durably

STATE_FILE = "device.json"
MAX_TRIES = 3
"""Failed attempts after which a version is refused, or tried again more and more rarely."""
_FIRST_WAIT, _LONGEST_WAIT = 3600, 24 * 3600
"""Seconds until a version that arrives damaged is downloaded again: doubled after each failure."""


@dataclass(frozen=True)
class RefusedVersion:
    """A version that could not be installed.

    Attributes:
        model_id: the version.
        sequence: the channel pointer's sequence.
        reason: what failed.
        tries: number of failed attempts.
        is_damaged: whether its files arrived damaged, perhaps by a proxy's fault; otherwise it does not load.
        failed_at: Unix time of the last failure.
    """

    model_id: str
    sequence: int
    reason: str
    tries: int
    is_damaged: bool = False
    failed_at: float = 0.0

    def matches(self, pointer: Pointer) -> bool:
        """Whether ``pointer`` is the one that was refused."""
        return (self.model_id, self.sequence) == (pointer.model_id, pointer.sequence)

    def retry_at(self) -> float | None:
        """Unix time from which the version may be tried again; None if only after the channel's pointer changes."""
        if self.tries < MAX_TRIES:
            return self.failed_at
        if not self.is_damaged:
            return None
        return self.failed_at + min(_FIRST_WAIT * (1 << min(self.tries - MAX_TRIES, 10)), _LONGEST_WAIT)

    def is_waiting(self, now: float) -> bool:
        """Whether the version is not to be tried now. A clock that was set back does not prolong the wait."""
        retry_at = self.retry_at()
        return retry_at is None or self.failed_at <= now < retry_at


@dataclass(frozen=True)
class InstallState:
    """State of a model folder that survives between updates.

    Attributes:
        sequences: highest sequence of an accepted pointer, by channel: a lower one is a replay. Empty without keys.
        versions: model ids whose folders were created here; only these folders are ever removed.
        previous: pointer of the previous version.
        refused: last version that could not be installed.
        withdrawn: versions that a channel withdrew, with the sequence of the pointer that did.
        newest: last pointer received from a channel, whether its version could be installed or not.
    """

    sequences: dict[str, int] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    previous: Pointer | None = None
    refused: RefusedVersion | None = None
    withdrawn: dict[str, int] = field(default_factory=dict)
    newest: Pointer | None = None

    def after(self, pointer: Pointer, is_signed: bool) -> "InstallState":
        """The state after accepting a channel's pointer: its sequence, and the versions that it withdraws.

        A version stays withdrawn, also when the channel's list is lost, until a newer pointer names it again.
        """
        known = dict(self.withdrawn)
        for name in pointer.withdrawn:
            known[name] = max(pointer.sequence, known.get(name, 0))
        back = {pointer.model_id, *pointer.previous}
        withdrawn = {name: at for name, at in known.items() if name not in back or at > pointer.sequence}
        sequences = self.sequences
        if is_signed:
            sequences = {**sequences, pointer.channel: max(pointer.sequence, sequences.get(pointer.channel, 0))}
        return replace(self, sequences=sequences, withdrawn=withdrawn, newest=pointer)

    def with_refused(
        self, pointer: Pointer, reason: str, now: float, tries: int = 1, is_damaged: bool = False
    ) -> "InstallState":
        """The state after ``tries`` more failed attempts to install the pointer's version."""
        if self.refused is not None and self.refused.matches(pointer):
            tries += self.refused.tries
        refused = RefusedVersion(pointer.model_id, pointer.sequence, reason, tries, is_damaged, now)
        return replace(self, refused=refused)

    def to_json(self) -> bytes:
        """Serialise for ``device.json``."""
        pointers = {"previous": self.previous, "newest": self.newest}
        texts = {name: json.loads(pointer.to_json()) if pointer else None for name, pointer in pointers.items()}
        content = asdict(replace(self, previous=None, newest=None)) | texts
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "InstallState":
        """Read what :meth:`to_json` wrote. Raises BundleError if it is damaged."""
        try:
            raw: Any = json.loads(data)
            previous, newest = (
                Pointer.from_json(json.dumps(raw[name]).encode()) if raw.get(name) else None
                for name in ("previous", "newest")
            )
            known = {item.name for item in fields(RefusedVersion)}
            refused = {name: value for name, value in (raw["refused"] or {}).items() if name in known}
            sequences, withdrawn = (
                {str(name): int(value) for name, value in raw.get(key, {}).items()}
                for key in ("sequences", "withdrawn")
            )
            return cls(
                sequences,
                tuple(filter(is_model_id, raw["versions"])),
                previous,
                RefusedVersion(**refused) if refused else None,
                withdrawn,
                newest,
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, BundleError) as error:
            raise BundleError(f"the state of the model folder cannot be read ({error})") from None

    def save(self, folder: Path) -> "InstallState":
        """Write ``device.json`` durably; return the state."""
        write_durably(folder / STATE_FILE, self.to_json())
        return self


def read_current(folder: Path) -> Pointer | None:
    """The pointer of the installed version; None if nothing is installed or the file is damaged."""
    try:
        return Pointer.from_json((folder / CURRENT).read_bytes(), str(folder / CURRENT))
    except (FileNotFoundError, BundleError):
        return None


def read_state(folder: Path, current: Pointer | None) -> InstallState:
    """The folder's state. If ``device.json`` is missing or damaged, ``current`` gives its sequence and withdrawals."""
    try:
        return InstallState.from_json((folder / STATE_FILE).read_bytes())
    except (FileNotFoundError, BundleError):
        return InstallState().after(current, current.envelope is not None) if current else InstallState()


def damaged_files(folder: Path, current: Pointer | None) -> list[str]:
    """Return the names of the folder's pointer and state if they exist and cannot be read."""
    damaged = [CURRENT] if current is None and (folder / CURRENT).exists() else []
    try:
        InstallState.from_json((folder / STATE_FILE).read_bytes())
    except FileNotFoundError:
        pass
    except BundleError:
        damaged.append(STATE_FILE)
    return damaged


def utc_text(seconds: float) -> str:
    """Format a Unix time for messages: ``2026-01-31 23:59 UTC``."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"
