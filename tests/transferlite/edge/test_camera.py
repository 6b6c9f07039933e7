"""Videos, streams and cameras: OpenCV writes and reads the videos; the camera is a fake."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Trained
from tests.pictures import COLOURS, jpeg
from transferlite.cli.main import run
from transferlite.edge.camera import NewestFrame, camera_frames
from transferlite.edge.stop_signal import StopSignal
from transferlite.errors import InputError, MissingExtraError, UnavailableError

cv2 = pytest.importorskip("cv2")

RATE = 10


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 10 frames per second, the first blue, the second red."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    random = np.random.default_rng(5)
    for number in range(2 * RATE):
        noisy = random.normal(COLOURS["blue" if number < RATE else "red"], 20, (48, 64, 3))
        writer.write(np.clip(noisy, 0, 255).astype(np.uint8)[..., ::-1])
    writer.release()
    return path


def test_every_frame_of_a_video_is_read_in_order_and_in_its_colours(video: Path) -> None:
    frames = list(camera_frames(str(video), 0, StopSignal()))
    assert [name for name, _ in frames] == [f"{video}#t={number / RATE:.3f}" for number in range(2 * RATE)]
    for number, (_, frame) in enumerate(frames):
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        expected = COLOURS["blue" if number < RATE else "red"]
        assert np.abs(frame.mean(axis=(0, 1)) - expected).max() < 12


@pytest.mark.parametrize(
    ("every", "times"), [(0.5, [0, 0.5, 1, 1.5]), (0.25, [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8]), (9, [0])]
)
def test_every_counts_video_time(video: Path, every: float, times: list[float]) -> None:
    assert [name for name, _ in camera_frames(str(video), every, StopSignal())] == [
        f"{video}#t={time:.3f}" for time in times
    ]


def test_predict_labels_a_video_until_it_ends(
    trained: Trained, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--camera", str(video), "--every", "0.5", "--bundle", str(trained.bundle), "--json"]
    assert run(words) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["label"] for record in records] == ["blue", "blue", "red", "red"]
    assert records[3]["image"] == f"{video}#t=1.500"


def test_the_stop_signal_ends_a_video(video: Path) -> None:
    stop = StopSignal()
    for number, _ in enumerate(camera_frames(str(video), 0, stop)):
        stop.received = number == 2
    assert number == 2


class FakeCamera:
    """A camera that numbers its frames; it blocks until :meth:`allow` or :meth:`end` is called."""

    def __init__(self) -> None:
        self.sent = 0
        self.reads = threading.Semaphore(0)
        self._allowed = threading.Semaphore(0)
        self._over = False

    def allow(self, count: int) -> None:
        """Send ``count`` frames, and return when the reader has taken them and waits for another."""
        self._allowed.release(count)
        for _ in range(count):
            self.reads.acquire()

    def end(self) -> None:
        """Report the end of the frames."""
        self._over = True
        self._allowed.release()

    def read(self) -> tuple[bool, Any]:
        self.reads.release()
        self._allowed.acquire()
        if self._over:
            return False, None
        self.sent += 1
        return True, np.full((2, 2, 3), self.sent, np.uint8)

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        return None


def test_a_slow_caller_gets_the_newest_frame() -> None:
    camera = FakeCamera()
    reader = NewestFrame(camera)
    camera.reads.acquire()
    for count, expected in ((1, 1), (20, 21), (200, 221)):
        camera.allow(count)
        taken = reader.take(StopSignal())
        assert taken is not None
        assert int(taken[1].max()) == expected
    camera.end()
    reader.close()


def test_a_camera_that_ends_gives_its_last_frame_and_then_none() -> None:
    camera = FakeCamera()
    reader = NewestFrame(camera)
    camera.reads.acquire()
    camera.allow(2)
    camera.end()
    taken = reader.take(StopSignal())
    assert taken is not None
    assert int(taken[1].max()) == 2
    assert reader.take(StopSignal()) is None
    reader.close()


class Stream(BaseHTTPRequestHandler):
    """Motion JPEG over HTTP, as network cameras send it: 40 red frames, then the connection closes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        for number in range(40):
            frame = jpeg("red", number)
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
            self.wfile.write(head.encode() + frame + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""


def test_predict_labels_a_stream_until_it_closes(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/camera.mjpg"
        assert run(["predict", "--camera", url, "--every", "0.1", "--bundle", str(trained.bundle), "--json"]) == 1
        server.shutdown()
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert 2 <= len(records) <= 20
    assert {record["label"] for record in records} == {"red"}
    assert all(record["image"].startswith(f"{url}#t=clock:20") for record in records)
    assert f"error: {url}: sends no more frames; is it connected?" in err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("97", "97: there is no camera 97, or it cannot be opened"),
        ("/no/such/clip.mp4", "there is no such video"),
        ("rtsp://127.0.0.1:9/x", "the stream cannot be opened"),
        (__file__, "is not a video that OpenCV can read"),
    ],
)
def test_a_source_that_cannot_be_opened_is_reported(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(camera_frames(source, 0, StopSignal()))


def test_a_silent_camera_times_out_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeCamera):
        released = False

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return True

        def release(self) -> None:
            self.released = True

    camera = Silent()
    monkeypatch.setattr("transferlite.edge.camera.FRAME_TIMEOUT", 0.1)
    monkeypatch.setattr("transferlite.edge.camera.CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: camera)
    with pytest.raises(UnavailableError, match="0: sends no more frames"):
        list(camera_frames("0", 0, StopSignal()))
    assert camera.released
    camera.end()


def test_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"opencv-python-headless is not installed; .*\[camera\]"):
        list(camera_frames("0", 0, StopSignal()))
