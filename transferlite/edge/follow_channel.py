"""Follow a registry's channel on an edge device: poll it and install each new version."""

import datetime
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from transferlite.edge.choose_version import RefusedError
from transferlite.edge.device_status import channel_problems
from transferlite.edge.install import InstallResult, ensure_loadable, install_current
from transferlite.edge.install_state import read_current
from transferlite.errors import MissingExtraError, TransferLiteError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry

_FIRST_MODEL_SECONDS = 60
"""Maximum poll interval until the first model is installed: a device may start before its network."""


@dataclass(frozen=True)
class ChannelFollower:
    """A folder, the channel it follows, and the variant that must load; see ``transferlite edge run --help``."""

    registry: str
    channel: str
    dest: Path
    variant: str
    public_key: str | None = None

    def open_registry(self) -> Registry:
        """Open the registry; keys and the share's index are read again."""
        return Registry.open(self.registry, self.public_key)

    def check_loads(self, bundle: Path) -> None:
        """Load a bundle as for serving: files, signature, shape and self-test. Raises BundleError."""
        Predictor.load(bundle, self.variant, public_key=self.public_key)

    def update(self) -> InstallResult:
        """Install the channel's version. Raises as :func:`transferlite.edge.install.install_current`."""
        return install_current(
            self.open_registry(), self.channel, self.dest, [self.variant], self.check_loads, retry_refused=False
        )


def follow(follower: ChannelFollower, poll: int | None) -> None:
    """Update the folder now and then every ``poll`` seconds, give or take 10%; only once if ``poll`` is None.

    Raises:
        MissingExtraError: no TFLite runtime is installed.
        InputError: the location, the key or the channel's name is invalid.
        TransferLiteError: with ``poll`` None, why nothing was installed. Otherwise it is printed and polling continues.
    """
    signal.signal(signal.SIGTERM, _exit)
    if follower.open_registry().keys is None:
        _print("no public key is configured: signatures are not checked")
    while True:
        try:
            _print(_update_message(follower.channel, follower.update()))
        except (TransferLiteError, OSError) as error:
            _keep_serving(follower, error)
            if poll is None:
                raise
        finally:
            for problem in channel_problems(follower.dest, datetime.datetime.now(datetime.UTC)):
                _print(f"warning: {problem}")
        if poll is None:
            return
        time.sleep(_pause(follower, poll))


def _update_message(channel: str, result: InstallResult) -> str:
    message = f"{result.model_id} is up to date"
    if result.changed:
        message = f"{channel} -> {result.model_id}" + (f" (was {result.previous})" if result.previous else "")
    for action, names in (("repaired", result.repaired), ("added", result.added)):
        message += f"; {action} {', '.join(names)}" if names else ""
    return message


def _pause(follower: ChannelFollower, poll: int) -> float:
    """Seconds until the next poll; random, so that devices switched on together do not stay in step."""
    seconds = poll if read_current(follower.dest) else min(poll, _FIRST_MODEL_SECONDS)
    return random.uniform(0.9, 1.1) * seconds


def _keep_serving(follower: ChannelFollower, error: TransferLiteError | OSError) -> None:
    """Print why nothing was installed; fall back to the previous version if the current one no longer loads."""
    if isinstance(error, MissingExtraError):
        raise error
    _print(f"{'refused' if isinstance(error, RefusedError) else 'not installed'}: {error}")
    try:
        left = ensure_loadable(follower.dest, follower.check_loads)
    except (TransferLiteError, OSError) as load_error:
        _print(f"no model can be served: {load_error}")
        return
    if left:
        _print(f"{left} no longer loads; went back to the previous version")


def _print(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _exit(_signal: int, _frame: FrameType | None) -> None:
    """Exit at once: an update may be interrupted after any step, so there is nothing to clean up."""
    os.write(1, b"stopped by SIGTERM\n")
    os._exit(0)
