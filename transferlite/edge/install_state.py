"""State of a model folder on an edge device: the file ``device.json`` next to the installed versions."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from transferlite.errors import BundleError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT
from transferlite.registry.manifest import is_model_id
from transferlite.storage.atomic_write import write_durably

STATE_FILE = "device.json"
MAX_TRIES = 3
"""Failed attempts after which a version is refused until the channel changes."""


@dataclass(frozen=True)
class RefusedVersion:
    """A version that could not be installed: the channel's pointer, the reason, and the number of failed attempts."""

    model_id: str
    sequence: int
    reason: str
    tries: int

    @property
    def final(self) -> bool:
        """Whether the version is not tried again until the channel's pointer changes."""
        return self.tries >= MAX_TRIES

    def matches(self, pointer: Pointer) -> bool:
        """Whether ``pointer`` is the one that was refused."""
        return (self.model_id, self.sequence) == (pointer.model_id, pointer.sequence)


@dataclass(frozen=True)
class InstallState:
    """State of a model folder that survives between updates.

    Attributes:
        sequences: highest sequence of an installed pointer, by channel: a lower one is a replay.
        versions: model ids whose folders were created here; only these folders are ever removed.
        previous: pointer of the previous version.
        refused: last version that could not be installed.
    """

    sequences: dict[str, int] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    previous: Pointer | None = None
    refused: RefusedVersion | None = None

    def with_refused(self, pointer: Pointer, reason: str, tries: int) -> "InstallState":
        """The state after ``tries`` more failed attempts to install the pointer's version."""
        if self.refused is not None and self.refused.matches(pointer):
            tries += self.refused.tries
        return replace(self, refused=RefusedVersion(pointer.model_id, pointer.sequence, reason, tries))

    def to_json(self) -> bytes:
        """Serialise for ``device.json``."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "InstallState":
        """Read what :meth:`to_json` wrote. Raises BundleError if it is damaged."""
        try:
            raw: Any = json.loads(data)
            previous = Pointer.from_json(json.dumps(raw["previous"]).encode()) if raw["previous"] else None
            refused = RefusedVersion(**raw["refused"]) if raw["refused"] else None
            sequences = {str(name): int(value) for name, value in raw["sequences"].items()}
            return cls(sequences, tuple(filter(is_model_id, raw["versions"])), previous, refused)
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
    """The folder's state. If ``device.json`` is missing or damaged, the signed ``current`` still gives the sequence."""
    try:
        return InstallState.from_json((folder / STATE_FILE).read_bytes())
    except (FileNotFoundError, BundleError):
        return InstallState({current.channel: current.sequence}) if current and current.signature else InstallState()


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
