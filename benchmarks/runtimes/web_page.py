"""The page that ``transferlite export web`` makes, served on loopback and open in a headless Chromium."""

import base64
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from playwright.sync_api import Page

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_BYTES = "const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));"


class WebPage:
    """An open page. ``asked`` are the URLs that it requested, ``failed`` the errors that it did not catch."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.url = page, url
        self.asked: list[str] = []
        self.failed: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.failed.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#file:not([disabled]), #message:not(:empty)", state="attached")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The page's model on uint8 RGB ``[H, W, 3]`` of its size: ``[N]``."""
        call = "const { open } = await import('./classifier.js'); return (await open()).probabilities(bytes(given));"
        said = self._run(f"return Array.from(await (async () => {{ {call} }})());", pixels.tobytes())
        return np.array(said, np.float32)

    def pixels(self, photo: bytes, height: int, width: int) -> NDArray[np.uint8]:
        """What the page makes of an encoded photo: uint8 ``[height, width, 3]``."""
        call = f"const found = await pixels(new Blob([bytes(given)]), {height}, {width});"
        return self._array(f"const {{ pixels }} = await import('./photo.js'); {call}", photo).reshape(height, width, 3)

    def resized(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """The page's resizing of uint8 RGB ``[H, W, 3]``."""
        sizes = ", ".join(map(str, (*image.shape[:2], height, width)))
        call = f"const {{ resize }} = await import('./photo.js'); const found = resize(bytes(given), {sizes});"
        return self._array(call, image.tobytes()).reshape(height, width, 3)

    def _array(self, call: str, given: bytes) -> NDArray[np.uint8]:
        text = "let text = ''; for (const one of found) text += String.fromCharCode(one); return btoa(text);"
        return np.frombuffer(base64.b64decode(self._run(call + text, given)), np.uint8)

    def _run(self, body: str, given: bytes) -> Any:
        return self.page.evaluate(f"async (given) => {{ {_BYTES} {body} }}", base64.b64encode(given).decode())


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing of each request."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def opened(site: Path) -> Iterator[WebPage]:
    """The site's page in a browser. Raises ClickException where there is no Chromium."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise click.ClickException("no chromium on this machine")
    with served(site) as url, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=_QUIET)
        yield WebPage(browser.new_page(), url)
        browser.close()
