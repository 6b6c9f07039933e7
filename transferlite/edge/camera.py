"""Read frames from a camera, a stream or a video file with OpenCV."""

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

FRAME_TIMEOUT = 10.0
"""Seconds without a frame after which a camera counts as disconnected."""

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the frame being read when a camera is closed."""


class Capture(Protocol):
    """The part of OpenCV's ``VideoCapture`` that is used here."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was another frame, and the frame as uint8 BGR ``[H, W, 3]``."""

    def get(self, prop: int) -> float:
        """Value of a property; 0 if unknown."""

    def release(self) -> None:
        """Close the source."""


def camera_frames(source: str, every: float, stop: StopSignal) -> Iterator[tuple[str, RGB]]:
    """Yield frames as uint8 RGB ``[H, W, 3]``, each with a name that contains its time: ``clip.mp4#t=12.480``.

    A video file yields every frame, or one per ``every`` seconds of video time, until it ends. A camera or stream
    yields its newest frame whenever the caller is ready, at most one per ``every`` seconds: frames never queue up.

    Args:
        source: a camera's number, a URL, or a path.
        every: seconds between frames.
        stop: ends the iteration.

    Raises:
        MissingExtraError: OpenCV is not installed.
        InputError: no such camera or file, or it is not a video.
        UnavailableError: a camera or stream sends no more frames.
    """
    with _opened(source) as (capture, is_live):
        yield from (_newest_frames if is_live else _frames_in_order)(source, capture, every, stop)


@contextmanager
def _opened(source: str) -> Iterator[tuple[Capture, bool]]:
    """Open the source; yield it and whether it is live, as a camera is."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("opencv-python-headless", "camera") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the errors below replace OpenCV's log
    is_file = not source.isdecimal() and "://" not in source
    if is_file and not Path(source).exists():
        raise InputError("there is no such video", where=source)
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        if not capture.isOpened():
            raise InputError(_open_error(source, is_file), where=source, hint="is another program using it?")
        is_device = is_file and Path(source).is_char_device()
        yield capture, is_device or (not is_file and capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0)
    finally:
        capture.release()


def _open_error(source: str, is_file: bool) -> str:
    if source.isdecimal():
        return f"there is no camera {source}, or it cannot be opened"
    return "is not a video that OpenCV can read" if is_file else "the stream cannot be opened"


def _frames_in_order(source: str, capture: Capture, every: float, stop: StopSignal) -> Iterator[tuple[str, RGB]]:
    import cv2

    due = 0.0
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    count = 0
    while not stop.received:
        has_frame, frame = capture.read()
        if not has_frame:
            break
        seconds = count / rate
        count += 1
        if seconds >= due:
            due = max(due + every, seconds)
            yield f"{source}#t={seconds:.3f}", _rgb(frame)
    if count == 0 and not stop.received:
        raise InputError("contains no frames that OpenCV can read", where=source)


def _newest_frames(source: str, capture: Capture, every: float, stop: StopSignal) -> Iterator[tuple[str, RGB]]:
    reader = NewestFrame(capture)
    try:
        while not stop.received:
            start = time.monotonic()
            taken = reader.take(stop)
            if taken is None:
                break
            moment, frame = taken
            yield f"{source}#t=clock:{moment.isoformat(timespec='milliseconds')[:-6]}Z", _rgb(frame)
            stop.wait(start + every - time.monotonic())
    finally:
        reader.close()
    if not stop.received:
        raise UnavailableError("sends no more frames", where=source, hint="is it connected?")


def _rgb(frame: Any) -> RGB:
    return np.ascontiguousarray(frame[..., ::-1])


class NewestFrame:
    """Read a camera at full speed in a background thread and keep only its newest frame."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._frame: tuple[datetime.datetime, Any] | None = None
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._closed:
            has_frame, frame = self._capture.read()
            with self._changed:
                self._frame = (datetime.datetime.now(datetime.UTC), frame) if has_frame else self._frame
                self._closed = self._closed or not has_frame
                self._changed.notify()

    def take(self, stop: StopSignal) -> tuple[datetime.datetime, Any] | None:
        """Wait for a frame that was not taken before; return its time and the frame.

        None if the camera ended, sent nothing for :data:`FRAME_TIMEOUT`, or ``stop`` was received.
        """
        deadline = time.monotonic() + FRAME_TIMEOUT
        with self._changed:
            while self._frame is None and not self._closed and not stop.received and time.monotonic() < deadline:
                self._changed.wait(0.1)
            taken, self._frame = self._frame, None
            return taken

    def close(self) -> None:
        """Stop reading. A hanging camera keeps its daemon thread until the process ends."""
        self._closed = True
        self._reader.join(CLOSE_TIMEOUT)
