"""Choose the version to install on an edge device: the channel's, unless it is replayed, outdated or refused."""

import datetime
import time
from pathlib import Path

from transferlite.edge.install_state import InstallState, RefusedVersion, utc_text
from transferlite.errors import BundleError, NotFoundError, UntrustedError
from transferlite.registry.channel_pointer import Pointer, check_not_replayed
from transferlite.registry.local_bundle import read_manifest
from transferlite.registry.memory_card import BundleFolder
from transferlite.registry.open_registry import Registry


class RefusedError(BundleError):
    """The channel still points to a version that could not be installed before."""


def choose_version(
    registry: Registry, channel: str, state: InstallState, current: Pointer | None, folder: Path
) -> Pointer:
    """Return the pointer of the version to install.

    Raises:
        UntrustedError: no accepted key signed the pointer, it or a single bundle is older than the installed one, or
            the version was withdrawn by a pointer that this device received.
        NotFoundError: the channel does not exist.
    """
    where = registry.store.uri
    if isinstance(registry.store, BundleFolder):
        pointer = _pointer_to_bundle(registry, registry.store.model_id, channel, current, folder)
    else:
        pointer = registry.channel(channel)
        if registry.keys is not None:
            check_not_replayed(pointer, state.sequences.get(channel, 0), f"{where}, channel {channel}")
    if pointer.sequence <= state.withdrawn.get(pointer.model_id, -1):  # of a single bundle it is 0
        raise UntrustedError(
            f"offers {pointer.model_id}, which its channel withdrew",
            where=where,
            hint="fill the card or share again, or promote the version again if it is good",
        )
    return pointer


def _pointer_to_bundle(
    registry: Registry, model_id: str, channel: str, current: Pointer | None, folder: Path
) -> Pointer:
    """Make a pointer to a single bundle, which comes without one.

    No channel confirms that the bundle is the one to install. So it must not be older than the installed one.
    """
    created_at = registry.manifest(model_id).created_at
    installed = _installed_at(current, folder)
    if installed and current and current.model_id != model_id and _parse_time(created_at) < _parse_time(installed):
        raise UntrustedError(
            f"was made {created_at}, before the installed model ({installed})",
            where=registry.store.uri,
            hint="use a registry, or a folder filled by transferlite models pull, whose channel points to it",
        )
    return Pointer(model_id, (), created_at, channel)


def _installed_at(current: Pointer | None, folder: Path) -> str | None:
    """Return the creation time of the installed version; None if there is none, or its manifest is damaged."""
    try:
        return read_manifest(folder / current.model_id).created_at if current else None
    except (BundleError, NotFoundError):
        return None


def _parse_time(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BundleError(f"the creation time {text!r} is invalid") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def check_refused(refused: RefusedVersion | None, pointer: Pointer) -> None:
    """Raise RefusedError if the pointer's version was refused before and is not due to be tried again."""
    if refused and refused.matches(pointer) and refused.is_waiting(time.time()):
        retry_at = refused.retry_at()
        hint = "promote another version, or run transferlite models pull to try this one again"
        if retry_at is not None:
            hint = f"it is downloaded again at the first poll after {utc_text(retry_at)}"
        raise RefusedError(f"{pointer.model_id} was refused before: {refused.reason}", hint=hint)
