"""Pictures of a camera, of a stream or of a video file, through OpenCV."""

import datetime
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transferlite.edge.stop_signal import StopSignal
from transferlite.errors import InputError, MissingExtraError, UnavailableError
from transferlite.images.decoder import RGB

SILENCE = 10.0
"""Seconds without a picture after which a camera counts as gone."""


HANGING = 2.0
"""Seconds that are waited for a camera in the middle of a picture before it is closed."""


class Capture(Protocol):
    """What is used of OpenCV's ``VideoCapture``."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is a further picture, and it: uint8 BGR ``[H, W, 3]``."""

    def get(self, prop: int) -> float:
        """A property's number, 0 if it is not known."""

    def release(self) -> None:
        """Close it."""


def camera_frames(source: str, every: float, ending: StopSignal) -> Iterator[tuple[str, RGB]]:
    """Pictures as uint8 RGB ``[H, W, 3]``, each with a name that says when it was: ``clip.mp4#t=12.480``.

    Of a file every picture is taken, or one each ``every`` seconds of its own time, until it ends. A camera or a stream
    gives the newest picture whenever one is asked for, at most one each ``every`` seconds: nothing queues up.

    Args:
        source: a camera's number, a URL, or a file's path.
        every: seconds.
        ending: ends the iteration.

    Raises:
        MissingExtraError: OpenCV is not installed.
        InputError: there is no such camera or file, or it is no video.
        UnavailableError: a camera or stream gives no more pictures.
    """
    with _opened(source) as (capture, live):
        yield from (_newest(source, capture, every, ending) if live else _in_order(source, capture, every, ending))


@contextmanager
def _opened(source: str) -> Iterator[tuple[Capture, bool]]:
    """The open source, and whether it goes on by itself, as a camera does."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("opencv-python-headless", "camera") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what goes wrong is said below
    is_file = not source.isdecimal() and "://" not in source
    if is_file and not Path(source).exists():
        raise InputError("there is no such video", where=source)
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        if not capture.isOpened():
            raise InputError(_cannot_be_opened(source, is_file), where=source, hint="is another program using it?")
        device = is_file and Path(source).is_char_device()
        yield capture, device or (not is_file and capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)
    finally:
        capture.release()


def _cannot_be_opened(source: str, is_file: bool) -> str:
    if source.isdecimal():
        return f"there is no camera {source}, or it cannot be opened"
    return "is no video, or of a kind that OpenCV does not read" if is_file else "the stream cannot be opened"


def _in_order(source: str, capture: Capture, every: float, ending: StopSignal) -> Iterator[tuple[str, RGB]]:
    import cv2

    due = 0.0
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    number = 0
    while not ending.asked:
        more, picture = capture.read()
        if not more:
            break
        seconds = number / rate
        number += 1
        if seconds >= due:
            due = max(due + every, seconds)
            yield f"{source}#t={seconds:.3f}", _rgb(picture)
    if number == 0 and not ending.asked:
        raise InputError("holds no pictures that OpenCV can read", where=source)


def _newest(source: str, capture: Capture, every: float, ending: StopSignal) -> Iterator[tuple[str, RGB]]:
    newest = Newest(capture)
    try:
        while not ending.asked:
            start = time.monotonic()
            taken = newest.take(ending)
            if taken is None:
                break
            moment, picture = taken
            yield f"{source}#t=clock:{moment.isoformat(timespec='milliseconds')[:-6]}Z", _rgb(picture)
            ending.wait(start + every - time.monotonic())
    finally:
        newest.close()
    if not ending.asked:
        raise UnavailableError("gives no more pictures", where=source, hint="is it connected?")


def _rgb(picture: Any) -> RGB:
    return np.ascontiguousarray(picture[..., ::-1])


class Newest:
    """Reads a camera on a thread of its own, as fast as it gives, and keeps the last picture only."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._picture: tuple[datetime.datetime, Any] | None = None
        self._over = False
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._over:
            more, picture = self._capture.read()
            with self._changed:
                self._picture = (datetime.datetime.now(datetime.UTC), picture) if more else self._picture
                self._over = self._over or not more
                self._changed.notify()

    def take(self, ending: StopSignal) -> tuple[datetime.datetime, Any] | None:
        """The newest picture that was not taken yet and its moment; None if none comes any more, or at the end."""
        until = time.monotonic() + SILENCE
        with self._changed:
            while self._picture is None and not self._over and not ending.asked and time.monotonic() < until:
                self._changed.wait(0.1)
            taken, self._picture = self._picture, None
            return taken

    def close(self) -> None:
        """Stop reading. A camera that hangs is left to the end of the process."""
        self._over = True
        self._reader.join(HANGING)
