"""State of an edge device: what is installed, what was refused or withdrawn, and each problem with what to do."""

import datetime
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transferlite.edge.install_state import (
    InstallState,
    damaged_files,
    read_current,
    read_state,
    utc_text,
)
from transferlite.errors import BundleError, TransferLiteError
from transferlite.predict.predictor import Predictor
from transferlite.registry.channel_pointer import Pointer, check_pointer
from transferlite.registry.local_bundle import CURRENT
from transferlite.trust.keys import PublicKeys
from transferlite.trust.open_keys import configured_public_keys

_CLOCK_HINT = "set the clock, for example with: timedatectl set-ntp true"
_MAX_CLOCK_DIFFERENCE = datetime.timedelta(days=1)


@dataclass(frozen=True)
class DeviceStatus:
    """Facts about a device's model folder by name, as text, and its problems."""

    facts: dict[str, str]
    problems: tuple[str, ...]


def device_status(folder: Path, variant: str | None, public_key: str | None, now: datetime.datetime) -> DeviceStatus:
    """Inspect a model folder without changing it; the installed version is loaded as for serving.

    Args:
        folder: the folder that ``transferlite edge run`` or ``models pull`` fills.
        variant: variant to load; the one that the bundle holds if None.
        public_key: accepted keys, as in :func:`~transferlite.trust.open_keys.configured_public_keys`.
        now: the current time.

    Raises:
        InputError: the public key is invalid.
    """
    keys = configured_public_keys(public_key)
    current = read_current(folder)
    state = read_state(folder, current)
    problems = [f"{folder / name} is damaged; the next poll repairs it" for name in damaged_files(folder, current)]
    problems += channel_problems(folder, now)
    if current:
        problems += _trust_problems(current, keys, folder)
    problems += _model_problems(current, folder, variant, public_key)
    if state.refused:
        problems.append(f"{state.refused.model_id} was refused: {state.refused.reason}")
    problems += _disk_problems(folder)
    return DeviceStatus(_facts(folder, current, state, keys, now), tuple(problems))


def channel_problems(folder: Path, now: datetime.datetime) -> list[str]:
    """Describe an expired pointer, a clock that cannot tell, and an installed version that the channel withdrew."""
    current = read_current(folder)
    if current is None:
        return []
    state = read_state(folder, current)
    problems = list(_pointer_problems(state.newest or current, now))
    if current.sequence <= state.withdrawn.get(current.model_id, -1):
        problems.append(f"{current.model_id} is still installed, although its channel withdrew it")
    return problems


def _pointer_problems(pointer: Pointer, now: datetime.datetime) -> Iterator[str]:
    try:
        made = datetime.datetime.fromisoformat(pointer.updated_at)
        is_behind = now < made - _MAX_CLOCK_DIFFERENCE
    except (ValueError, TypeError):  # not a time, or one without a zone
        is_behind = False
    if is_behind:
        yield (
            f"the clock of this device says {utc_text(now.timestamp())}, but its model was promoted"
            f" {pointer.updated_at}: an expiry cannot be noticed; {_CLOCK_HINT}"
        )
    elif pointer.is_expired(now):
        yield (
            f"the pointer of channel {pointer.channel} expired {pointer.expires_at}: newer versions may be withheld"
            " from this device; check its connection, then renew the pointer with: transferlite models promote"
        )


def _trust_problems(current: Pointer, keys: PublicKeys | None, folder: Path) -> Iterator[str]:
    if keys is not None and current.envelope is not None:
        try:
            check_pointer(current, current.channel, keys, str(folder / CURRENT))
        except BundleError as error:
            yield f"{error}; the next poll replaces it if the channel is signed with an accepted key"


def _model_problems(
    current: Pointer | None, folder: Path, variant: str | None, public_key: str | None
) -> Iterator[str]:
    if not folder.is_dir():
        yield f"{folder} does not exist; correct the path, or mount its disk"
        return
    if current is None:
        yield f"{folder}: no model is installed; run transferlite edge run --once, and read what it prints"
        return
    try:
        Predictor.load(folder, variant, public_key=public_key)
    except (TransferLiteError, OSError) as error:
        yield f"the installed model does not load: {error}"


def _disk_problems(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    if not os.access(folder, os.W_OK):
        yield f"{folder}: the disk or folder is not writable; remount it for writing, or correct its owner"
    size = sum(path.stat().st_size for path in folder.rglob("*.tflite"))
    free = shutil.disk_usage(folder).free
    if free < size / 2:  # the folder holds two versions
        yield f"{folder}: {free / 1e6:.1f} MB are free: the next version may not fit; delete other files on this disk"


def _facts(
    folder: Path, current: Pointer | None, state: InstallState, keys: PublicKeys | None, now: datetime.datetime
) -> dict[str, str]:
    facts = {"folder": str(folder), "model": current.model_id if current else "none"}
    if state.previous:
        facts["previous model"] = state.previous.model_id
    if pointer := state.newest or current:
        facts["channel"] = f"{pointer.channel} -> {pointer.model_id}, changed {pointer.updated_at}"
        facts["pointer expires"] = pointer.expires_at or "never"
    facts["accepted keys"] = str(keys) if keys else "none: signatures are not checked"
    if state.withdrawn:
        facts["withdrawn"] = ", ".join(sorted(state.withdrawn))
    if refused := state.refused:
        retry_at = refused.retry_at()
        again = "after the channel changes" if retry_at is None else f"after {utc_text(retry_at)}"
        facts["refused"] = f"{refused.model_id}, {refused.tries} attempts, tried again {again}"
    if folder.is_dir():
        facts["free space"] = f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
    return facts | {"clock": utc_text(now.timestamp())}
