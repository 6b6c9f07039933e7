"""Install a channel's version into a folder on an edge device, atomically.

::

    DEST/current.json       Pointer to the installed version: replaced in one step, after everything else
    DEST/<model_id>/        the installed version, and the previous one
    DEST/device.json        state that survives between updates, see :class:`InstallState`

If the process dies or the power is cut at any moment, the folder holds the old version or the new one, complete. The
next call resumes from there.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from transferlite.edge.choose_version import check_refused, choose_version
from transferlite.edge.install_state import MAX_TRIES, InstallState, damaged_files, read_current, read_state
from transferlite.errors import BundleError, DiskFullError, NotFoundError, UntrustedError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.storage.atomic_write import TEMPORARY_PREFIX, write_durably
from transferlite.storage.folder import folder_lock
from transferlite.storage.os_errors import translate_os_errors

LoadCheck = Callable[[Path], object]
"""Loads a bundle as for serving. Raises BundleError if it cannot be loaded."""


@dataclass(frozen=True)
class InstallResult:
    """The installed version, and the version that was installed before the call.

    Attributes:
        bundle: the version's folder.
        model_id: the version.
        previous: the version before the call; None if there was none.
        repaired: damaged files that were replaced.
        added: files that were fetched for a version that was installed already.
    """

    bundle: Path
    model_id: str
    previous: str | None
    repaired: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the call installed another version."""
        return self.model_id != self.previous


def install_current(
    registry: Registry,
    channel: str,
    folder: Path,
    variants: Iterable[str] | None = None,
    load_check: LoadCheck | None = None,
    retry_refused: bool = True,
) -> InstallResult:
    """Install the version that ``channel`` points to. On any error the installed version stays.

    Args:
        registry: registry to pull from, with the accepted keys.
        channel: channel to follow; ignored for a single bundle on a memory card, which has no channel.
        folder: folder to install into.
        variants: TFLite files to pull; all if None.
        load_check: called with the pulled bundle before the switch.
        retry_refused: also try a version that was refused before.

    Raises:
        UntrustedError: no accepted key signed the version or its pointer, or the pointer is older than the last one.
        BundleError: the version is damaged, or ``load_check`` failed.
        RefusedError: the version was refused before and ``retry_refused`` is False.
        TransferLiteError: the store cannot be read.
    """
    _create_folder(folder)
    with folder_lock(folder):
        current = read_current(folder)
        state = read_state(folder, current)
        repaired, added = damaged_files(folder, current), list[str]()
        pointer = choose_version(registry, channel, state, current, folder)
        if not retry_refused:
            check_refused(state.refused, pointer)
        state = _prepare(folder, state, current, pointer, registry.keys is not None)

        def pull(state: InstallState) -> Path:
            spares = [old.model_id for old in (current, state.previous) if old and old.model_id != pointer.model_id]
            return registry.pull(
                pointer.model_id,
                folder,
                variants,
                [folder / model_id for model_id in spares],
                on_fetch=lambda name, is_repaired: (repaired if is_repaired else added).append(name),
            )

        try:
            bundle, state = _pull_into_space(pull, folder, state, current, pointer, load_check)
        except UntrustedError:
            raise
        except BundleError as error:
            state.with_refused(pointer, str(error), time.time(), is_damaged=True).save(folder)
            raise
        if load_check:
            _check_loads(folder, state, current, pointer, load_check)
        _switch(folder, state, current, pointer)
    previous = current.model_id if current else None
    is_same = previous == pointer.model_id
    return InstallResult(
        bundle, pointer.model_id, previous, tuple(sorted(repaired)), tuple(sorted(added)) if is_same else ()
    )


def ensure_loadable(folder: Path, load_check: LoadCheck) -> str | None:
    """Fall back to the previous version if the installed one does not load, unless the channel withdrew it.

    Returns:
        The model id of the version that does not load; None if the installed version loads.

    Raises:
        TransferLiteError: neither version loads.
    """
    if not folder.is_dir():
        raise NotFoundError("does not exist", where=str(folder), hint="correct the path, or mount its disk")
    with folder_lock(folder):
        current = read_current(folder)
        if current is None:
            raise NotFoundError("no model has been pulled yet", where=str(folder))
        try:
            load_check(folder / current.model_id)
            return None
        except (BundleError, NotFoundError):
            state = read_state(folder, current)
            previous = state.previous
            if previous is None or previous.model_id in {current.model_id, *state.withdrawn}:
                raise
            load_check(folder / previous.model_id)
        write_durably(folder / CURRENT, previous.to_json())
        return current.model_id


def _create_folder(folder: Path) -> None:
    """Create the model folder, but not its parents: where a disk is not mounted, the model would fill another one."""
    if not folder.absolute().parent.is_dir():
        hint = "mount its disk, or create the parent folder"
        raise NotFoundError("its parent folder does not exist", where=str(folder), hint=hint)
    with translate_os_errors(folder):
        folder.mkdir(exist_ok=True)


# -- make space ------------------------------------------------------------------------------------------------------


def _prepare(
    folder: Path, state: InstallState, current: Pointer | None, pointer: Pointer, is_signed: bool
) -> InstallState:
    """Delete versions that failed and their partial files, then save what the pointer tells: a full disk has no space.

    The state names the folder of the new version before it is created. What the pointer withdraws is kept even if its
    version cannot be pulled now.
    """
    new = state.after(pointer, is_signed) if pointer.sequence else state  # a single bundle has no channel
    if pointer.model_id not in new.versions:
        new = replace(new, versions=(*new.versions, pointer.model_id))
    if current is not None:  # with a damaged current.json, any folder may be the one that serves
        kept = {old.model_id for old in (current, new.previous, pointer) if old}
        for model_id in set(new.versions) - kept:
            _remove(folder / model_id)
        for path in _temporary_files(folder, kept - {pointer.model_id}):
            path.unlink(missing_ok=True)
    if new != state:
        new.save(folder)
    return new


def _pull_into_space(
    pull: Callable[[InstallState], Path],
    folder: Path,
    state: InstallState,
    current: Pointer | None,
    pointer: Pointer,
    load_check: LoadCheck | None,
) -> tuple[Path, InstallState]:
    """Pull; if the disk is full, delete the previous version and pull again, but only if the installed one loads."""
    try:
        return pull(state), state
    except DiskFullError:
        if current is None or state.previous is None or load_check is None:
            raise
        if state.previous.model_id in {current.model_id, pointer.model_id} or not _loads(folder, current, load_check):
            raise
    _remove(folder / state.previous.model_id)
    state = replace(state, previous=None).save(folder)
    return pull(state), state


def _loads(folder: Path, version: Pointer, load_check: LoadCheck) -> bool:
    try:
        load_check(folder / version.model_id)
    except (BundleError, NotFoundError):
        return False
    return True


# -- refuse a version ------------------------------------------------------------------------------------------------


def _check_loads(
    folder: Path, state: InstallState, current: Pointer | None, pointer: Pointer, load_check: LoadCheck
) -> None:
    """Load the pulled version, and refuse it if that fails.

    A new version counts as failed before it is loaded, because loading may crash the process.
    """
    is_new = current is None or current.model_id != pointer.model_id
    if is_new:
        state.with_refused(pointer, "the process ended while loading it", time.time()).save(folder)
    try:
        load_check(folder / pointer.model_id)
    except BundleError as error:
        state.with_refused(pointer, str(error), time.time(), MAX_TRIES).save(folder)
        if is_new:
            _remove(folder / pointer.model_id)
        raise


# -- switch to a version ---------------------------------------------------------------------------------------------


def _switch(folder: Path, state: InstallState, current: Pointer | None, pointer: Pointer) -> None:
    """Save the state, replace the pointer, then remove old versions. In this order any step may be the last."""
    previous = state.previous if current is None or current.model_id == pointer.model_id else current
    if previous is not None and previous.model_id in state.withdrawn:
        previous = None
    state = replace(state, previous=previous, refused=None)
    if state != read_state(folder, current):
        state.save(folder)
    if current != pointer:
        write_durably(folder / CURRENT, pointer.to_json())
    kept = {pointer.model_id} | ({previous.model_id} if previous else set())
    for model_id in state.versions:
        if model_id not in kept:
            _remove(folder / model_id)
    if set(state.versions) - kept:
        replace(state, versions=tuple(model_id for model_id in state.versions if model_id in kept)).save(folder)
    for path in _temporary_files(folder, kept):
        path.unlink(missing_ok=True)


def _remove(bundle: Path) -> None:
    with suppress(FileNotFoundError):
        (bundle / MANIFEST).unlink()  # first: without it, a partly removed folder is not a bundle
    shutil.rmtree(bundle, ignore_errors=True)


def _temporary_files(folder: Path, model_ids: Iterable[str]) -> Iterator[Path]:
    """Files of interrupted writes."""
    yield from folder.glob(f"{TEMPORARY_PREFIX}*")
    for model_id in model_ids:
        yield from (folder / model_id).rglob(f"{TEMPORARY_PREFIX}*")
