"""Label each new photo in watched folders, whatever happens to photos, folders and disks meanwhile."""

import time
from collections.abc import Iterable
from pathlib import Path

import click

from transferlite.cli.print_predictions import PredictionPrinter, read_photo_names
from transferlite.edge.stop_signal import catch_stop_signals
from transferlite.edge.watch_photos import PhotoWatcher
from transferlite.errors import BundleError, NotFoundError, PhotoError, TransferLiteError
from transferlite.images.input_spec import READ_BYTES
from transferlite.storage.locations import read_uri


def watch_folders(folders: Iterable[str], every: float, printer: PredictionPrinter, out: Path | None) -> None:
    """Predict existing and new photos in the folders, each once, until a stop signal.

    Args:
        folders: local folders.
        every: seconds between two scans.
        printer: prints the predictions.
        out: file of an earlier run, whose photos are skipped; None for none.

    Raises:
        InputError: a folder does not exist or is not local.
        OSError: standard output cannot be written.
    """

    def print_error(error: TransferLiteError) -> None:
        # Not to --out: a photo that is there after a restart must not count as predicted.
        click.echo(f"error: {error}", err=True)

    watcher = PhotoWatcher([Path(folder).expanduser() for folder in folders], read_photo_names(out), print_error)
    labeller = _WatchLabeller(watcher, printer)
    with catch_stop_signals() as stop:
        while not stop.received:
            for path in watcher.scan(time.monotonic()):
                if stop.received or not labeller.label(path):
                    break
            stop.wait(every)


class _WatchLabeller:
    """Label the photos that a watcher reports, each until it has a prediction or is rejected.

    What may heal by itself is printed once and tried again at the next scan: a photo that cannot be read, and a full
    disk for --out.

    Args:
        watcher: the watched folders.
        printer: prints the predictions.
    """

    def __init__(self, watcher: PhotoWatcher, printer: PredictionPrinter) -> None:
        self._watcher = watcher
        self._printer = printer
        self._unreadable: set[str] = set()
        self._output_error = ""

    def label(self, path: str) -> bool:
        """Label a new photo; return False if --out cannot be written, so that the photo is due again."""
        try:
            self._label(path)
        except OSError as error:
            if error.filename is None:  # standard output
                raise
            message = f"error: {error.filename}: {error.strerror}; photos wait until it can be written"
            if message != self._output_error:
                click.echo(message, err=True)
            self._output_error = message
            return False
        self._output_error = ""
        return True

    def _label(self, path: str) -> None:
        try:
            self._printer.predict(path, read_uri(path, READ_BYTES))
        except NotFoundError:
            return  # moved away since it was found
        except (PhotoError, BundleError) as error:
            if self._watcher.may_be_unfinished(path, time.monotonic()):
                return
            self._printer.print_error(path, error)
        except TransferLiteError as error:
            if path not in self._unreadable:
                click.echo(f"error: {error}; it is tried again", err=True)
            self._unreadable.add(path)
            return
        self._unreadable.discard(path)
        self._watcher.done(path)
