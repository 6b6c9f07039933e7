"""Open the page that ``transferlite export web`` makes in a headless Chromium, served on loopback."""

import base64
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from transferlite.images.input_spec import InputSpec

if TYPE_CHECKING:
    from playwright.sync_api import Page

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_BYTES = "const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));"


class WebPage:
    """An open page. ``requests`` are the URLs that it requested, ``errors`` the exceptions that it did not catch."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#file:not([disabled]), #message:not(:empty)", state="attached")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict uint8 RGB ``[H, W, 3]`` of the model's size with the page's model; returns probabilities ``[C]``."""
        call = "const { open } = await import('./classifier.js'); return (await open()).probabilities(bytes(data));"
        result = self._run(f"return Array.from(await (async () => {{ {call} }})());", pixels.tobytes())
        return np.array(result, np.float32)

    def pixels(self, photo: bytes, height: int, width: int) -> NDArray[np.uint8]:
        """Decode an encoded photo with the page's code: uint8 ``[height, width, 3]``."""
        size = json.dumps({"height": height, "width": width})
        call = f"const result = await pixels(new Blob([bytes(data)]), {size});"
        return self._array(f"const {{ pixels }} = await import('./photo.js'); {call}", photo).reshape(height, width, 3)

    def resized(self, image: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
        """Resize uint8 RGB ``[H, W, 3]`` to ``spec`` with the page's code."""
        height, width = image.shape[:2]
        arguments = f"bytes(data), {height}, {width}, {json.dumps(vars(spec))}"
        call = f"const {{ fit }} = await import('./photo.js'); const result = fit({arguments});"
        return self._array(call, image.tobytes()).reshape(spec.height, spec.width, 3)

    def _array(self, call: str, data: bytes) -> NDArray[np.uint8]:
        text = "let text = ''; for (const byte of result) text += String.fromCharCode(byte); return btoa(text);"
        return np.frombuffer(base64.b64decode(self._run(call + text, data)), np.uint8)

    def _run(self, body: str, data: bytes) -> Any:
        return self.page.evaluate(f"async (data) => {{ {_BYTES} {body} }}", base64.b64encode(data).decode())


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Print nothing."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yields the URL of its ``index.html``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def open_page(site: Path) -> Iterator[WebPage]:
    """Open a site in a browser. Raises ClickException if Chromium is not installed."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise click.ClickException("no chromium on this machine")
    with serve_folder(site) as url, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=_QUIET)
        yield WebPage(browser.new_page(), url)
        browser.close()
