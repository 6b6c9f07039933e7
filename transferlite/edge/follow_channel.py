"""A device that follows a channel by itself, for as long as it runs."""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from transferlite.edge.install import InstallResult, RefusedError, ensure_loadable, install_current, read_current
from transferlite.errors import MissingExtraError, TransferLiteError
from transferlite.predict.predictor import Predictor
from transferlite.registry.open_registry import Registry

_FIRST_MODEL_SECONDS = 60
"""How soon to look again as long as there is no model at all: a device may start before its network."""


@dataclass(frozen=True)
class Follow:
    """Which channel a folder follows, and the variant that has to load; see ``transferlite edge run --help``."""

    registry: str
    channel: str
    dest: Path
    variant: str
    public_key: str | None = None

    def open(self) -> Registry:
        """The registry, read anew."""
        return Registry.open(self.registry, self.public_key)

    def prove(self, bundle: Path) -> None:
        """Load it as it will serve: files, signature, shape and test pictures. Raises BundleError."""
        Predictor.load(bundle, self.variant, public_key=self.public_key)

    def look(self) -> InstallResult:
        """Take what the channel names now, if it can be taken. Raises as :func:`transferlite.edge.install.install_current`."""
        return install_current(self.open(), self.channel, self.dest, [self.variant], self.prove, insist=False)


def follow(wanted: Follow, poll: int | None) -> None:
    """Look now and then every ``poll`` seconds, give or take a tenth; only once if it is None.

    Raises:
        TransferLiteError: where it looks only once, why nothing new was taken; otherwise only for what no waiting
            mends: no runtime installed, a key or channel name that is none.
    """
    signal.signal(signal.SIGTERM, _end)
    if wanted.open().keys is None:
        _say("no public key is configured: signatures are not checked")
    while True:
        try:
            taken = wanted.look()
            _say(_what_came(wanted.channel, taken))
        except (TransferLiteError, OSError) as error:
            _keep(wanted, error)
            if poll is None:
                raise
        if poll is None:
            return
        time.sleep(_pause(wanted, poll))


def _what_came(channel: str, taken: InstallResult) -> str:
    if not taken.changed:
        return f"{taken.model_id} is up to date"
    return f"{channel} -> {taken.model_id}" + (f" (was {taken.before})" if taken.before else "")


def _pause(wanted: Follow, poll: int) -> float:
    """Seconds until the next look: a fleet that was switched on at once does not ask at once for ever."""
    seconds = poll if read_current(wanted.dest) else min(poll, _FIRST_MODEL_SECONDS)
    return random.uniform(0.9, 1.1) * seconds


def _keep(wanted: Follow, error: TransferLiteError | OSError) -> None:
    """Say why nothing was taken, and see that what is there still loads, or what was there before."""
    if isinstance(error, MissingExtraError):
        raise error
    _say(f"{'refused' if isinstance(error, RefusedError) else 'not taken'}: {error}")
    try:
        left = ensure_loadable(wanted.dest, wanted.prove)
    except (TransferLiteError, OSError) as worse:
        _say(f"no model can be served: {worse}")
        return
    if left:
        _say(f"went back from {left}, which does not load any more")


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Nothing has to be put in order: each step of an update may be the last."""
    os.write(1, b"stopped by SIGTERM\n")
    os._exit(0)
