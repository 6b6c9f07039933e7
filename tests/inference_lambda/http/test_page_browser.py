"""The web page in headless Chromium, served by ``transferlite serve``."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from PIL import ExifTags, Image

from tests.conftest import Trained
from tests.inference_lambda.serving import RunningServer, serving
from tests.pictures import jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.enable_socket

SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 860}}


@pytest.fixture(scope="module")
def served(browser: "Browser", trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    assert browser
    with serving(tmp_path_factory.mktemp("serve"), "--registry", str(trained.registry)) as running:
        yield running


class OpenPage:
    """The page in a new window, with its console messages and requests."""

    def __init__(self, browser: "Browser", url: str, **options: Any) -> None:
        self.page: Page = browser.new_context(**options).new_page()
        self.console: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url, wait_until="networkidle")

    def drop(self, data: bytes, name: str, kind: str) -> None:
        """Drop a file on the page's footer."""
        self.page.evaluate(
            """([data, name, type]) => {
                const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name, { type }));
                const event = { bubbles: true, cancelable: true, dataTransfer: transfer };
                document.querySelector("footer").dispatchEvent(new DragEvent("dragover", event));
                document.querySelector("footer").dispatchEvent(new DragEvent("drop", event));
            }""",
            [base64.b64encode(data).decode(), name, kind],
        )

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    def wait(self, selector: str, state: Literal["attached", "visible"] = "visible") -> None:
        self.page.wait_for_selector(selector, state=state, timeout=20_000)

    def answered(self) -> str:
        self.wait("#details:not([hidden])")
        return self.text("answer")


@pytest.fixture
def opened(browser: "Browser", served: RunningServer) -> Iterator[Callable[..., OpenPage]]:
    """Function that opens the page; at the end, no page may have console messages or requests to other servers."""
    pages: list[OpenPage] = []

    def work(url: str = "", **options: Any) -> OpenPage:
        pages.append(OpenPage(browser, url or served.url, **options))
        return pages[-1]

    yield work
    for open_page in pages:
        assert open_page.console == []
        assert {url for url in open_page.requests if not url.startswith(("data:", "blob:"))} == {
            url for url in open_page.requests if url.startswith("http://127.0.0.1:")
        }
        open_page.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_dropped_photo_is_labelled_and_explained(
    size: str, scheme: str, opened: Callable[..., OpenPage], trained: Trained
) -> None:
    page = opened(viewport=SIZES[size], color_scheme=scheme)
    assert page.text("model-labels") == "This model recognises blue and red."
    page.drop(jpeg("red", 99), "ein Hund+100% 猫.jpg", "image/jpeg")
    assert page.answered() == "red"
    assert page.text("name") == "ein Hund+100% 猫.jpg"
    assert page.text("version") == trained.bundle.name
    bars = page.page.locator("#bars li")
    assert [text.split("\n")[0] for text in bars.all_inner_texts()] == ["red", "blue"]
    widths = page.page.evaluate("[...document.querySelectorAll('.bar div')].map((bar) => bar.clientWidth)")
    assert widths[0] > widths[1]
    assert page.text("status").startswith("red, ")
    page.page.get_by_role("button", name="Why this label?").click()
    page.wait("#why[aria-pressed='true']")
    assert page.page.evaluate("document.getElementById('heat').naturalWidth") == 128
    assert "Covers" not in page.text("why-text")
    photo, heat = (page.page.locator(name).bounding_box() for name in ("#photo", "#heat"))
    assert photo == heat
    page.page.get_by_role("button", name="Why this label?").click()
    assert page.page.get_attribute("#why", "aria-pressed") == "false"
    assert page.page.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("notes.txt", "text/plain", "“notes.txt” is a text file. Choose a photo"),
        ("paper.pdf", "application/pdf", "“paper.pdf” is a PDF. Choose a photo"),
        ("film.mp4", "video/mp4", "“film.mp4” is a video. Choose a photo"),
    ],
)
def test_a_file_that_is_not_a_photo_is_not_sent(
    name: str, kind: str, words: str, opened: Callable[..., OpenPage]
) -> None:
    page = opened()
    page.drop(b"hello", name, kind)
    page.wait("#error:not(:empty)")
    assert page.text("error").startswith(words)
    assert not page.page.locator("#result").is_visible()
    assert [url for url in page.requests if "predict" in url] == []
    page.drop(jpeg("blue", 99), "blue.jpg", "image/jpeg")
    assert (page.answered(), page.text("error")) == ("blue", "")


def test_a_photo_may_be_chosen_by_keyboard_taken_and_pasted(opened: Callable[..., OpenPage]) -> None:
    page = opened()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "file"
    chosen: list[Any] = []
    page.page.on("filechooser", lambda chooser: chosen.append(chooser))  # noqa: PLW0108 - Playwright takes no builtin
    for _ in range(10):  # a browser that is still starting may ignore the first key
        page.page.keyboard.press("Enter")
        page.page.wait_for_timeout(500)
        if chosen:
            break
    chosen[0].set_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg("red", 98)})
    assert page.answered() == "red"
    page.page.set_input_files("#camera", {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": jpeg("blue", 98)})
    page.wait("#name:has-text('b.jpg')")
    assert page.answered() == "blue"
    page.page.evaluate(
        """(data) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            transfer.items.add(new File([bytes], "p.png"));
            const event = { bubbles: true, cancelable: true, clipboardData: transfer };
            document.body.dispatchEvent(new ClipboardEvent("paste", event));
        }""",
        base64.b64encode(jpeg("red", 97)).decode(),
    )
    page.wait("#name:has-text('p.png')")
    assert page.answered() == "red"


def large(colour: str, form: str, orientation: int = 1) -> bytes:
    """Return a photo of more than 4.4 MB."""
    noise = Image.effect_noise((2600, 1800), 90).convert("RGB")
    image, file = Image.blend(Image.new("RGB", noise.size, colour), noise, 0.3), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, form, exif=exif, quality=99)
    assert len(file.getvalue()) > 4_400_000
    return file.getvalue()


def test_a_large_photo_is_shrunk_before_it_is_sent(opened: Callable[..., OpenPage], tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(large("red", "JPEG", orientation=6))
    page = opened()
    page.page.set_input_files("#file", path)
    assert page.answered() == "red"
    before, after = (float(size) for size in re.findall(r"([\d.]+) MB", page.text("shrunk")))
    assert 0 < after < 4.0 < before


def test_a_large_file_that_the_browser_cannot_read_is_not_sent(opened: Callable[..., OpenPage], tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(large("red", "TIFF"))
    page = opened()
    page.page.set_input_files("#file", path)
    page.wait("#error:not(:empty)")
    assert "MB, and this browser cannot shrink it" in page.text("error")


def test_a_photo_that_only_the_function_can_read_is_labelled(opened: Callable[..., OpenPage], tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    Image.new("RGB", (64, 48), "blue").save(path, "TIFF")
    page = opened()
    page.page.set_input_files("#file", path)
    assert page.answered() == "blue"
    assert not page.page.locator("#photo").is_visible()


def test_bars_and_pressed_buttons_are_visible_in_forced_colours(opened: Callable[..., OpenPage]) -> None:
    page = opened(forced_colors="active", viewport=SIZES["phone"])
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    assert page.answered() == "red"
    style = "(name) => { const found = getComputedStyle(document.querySelector(name)); return found."
    assert page.page.evaluate(style + "borderTopStyle }", ".bar") == "solid"
    assert page.page.evaluate(style + "outlineStyle }", "#why") == "none"
    page.page.get_by_role("button", name="Why this label?").click()
    page.wait("#why[aria-pressed='true']")
    page.page.evaluate("document.activeElement.blur()")
    assert page.page.evaluate(style + "outlineStyle }", "#why") == "solid"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("unsure", "The model is not sure."),
        ("unlike-training-photos", "The photo is unlike the training photos."),
        ("none-of-these", "The photo shows none of the classes."),
    ],
)
def test_an_unknown_photo_is_shown_with_the_reason(opened: Callable[..., OpenPage], reason: str, text: str) -> None:
    page = opened()
    top = [{"label": "red", "score": 0.61}, {"label": "blue", "score": 0.39}]
    prediction = {"model_id": "other", "label": "unknown", "score": 0.61, "top": top, "reason": reason}
    page.page.route("**/predict?*", lambda route: route.fulfill(json=prediction))
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    assert page.answered() == "Unknown"
    assert page.text("confidence") == f"{text} Best guess: red, 61.0%."
    assert "61.0%" in page.page.locator("#bars li").first.inner_text()


def test_an_unreachable_function_shows_an_error(opened: Callable[..., OpenPage]) -> None:
    page = opened()
    page.page.route("**/predict?*", lambda route: route.abort())
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    page.wait("#error:not(:empty)")
    assert "cannot be reached" in page.text("error")
    assert not page.page.locator("#result").is_visible()
    page.console.clear()  # the browser logs the failed request


def test_the_page_asks_for_a_key_if_the_function_requires_one(
    browser: "Browser", trained: Trained, tmp_path: Path
) -> None:
    with serving(tmp_path / "serve", "--bundle", str(trained.bundle), TRANSFERLITE_API_KEY="secret") as guarded:
        page = OpenPage(browser, guarded.url)
        key = page.page.get_by_label("API key")
        assert key.is_visible()
        assert page.console == []
        key.fill("wrong")
        key.press("Enter")
        page.wait("#error:has-text('Enter a valid API key')")
        page.wait("#key:focus")
        page.drop(jpeg("red"), "a.jpg", "image/jpeg")
        page.wait("#name:has-text('a.jpg')", state="attached")
        page.wait("#error:has-text('Enter a valid API key')")
        page.wait("#key:focus")
        key.fill("secret")
        key.press("Enter")
        assert page.answered() == "red"
        assert not key.is_visible()
        assert page.text("model-labels") == "This model recognises blue and red."
        assert all("401" in line for line in page.console)
        page.page.context.close()
