"""The page in a real browser, before the function as ``transferlite serve`` runs it."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from PIL import ExifTags, Image

from tests.conftest import Trained
from tests.inference_lambda.serving import Served, serving
from tests.pictures import jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.enable_socket

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 860}}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=[*QUIET, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(browser: "Browser", trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert browser
    with serving(tmp_path_factory.mktemp("serve"), "--registry", str(trained.registry)) as running:
        yield running


class Opened:
    """The page in a window of its own, and all that it said and asked for."""

    def __init__(self, browser: "Browser", url: str, **options: Any) -> None:
        self.page: Page = browser.new_context(**options).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url, wait_until="networkidle")

    def drop(self, data: bytes, name: str, kind: str) -> None:
        """Drop a file somewhere on the page."""
        self.page.evaluate(
            """([data, name, type]) => {
                const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
                const carried = new DataTransfer();
                carried.items.add(new File([bytes], name, { type }));
                const event = { bubbles: true, cancelable: true, dataTransfer: carried };
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
def opened(browser: "Browser", served: Served) -> Iterator[Callable[..., Opened]]:
    """Opens the page; at the end none of the pages may have said anything, or asked another server."""
    pages: list[Opened] = []

    def work(url: str = "", **options: Any) -> Opened:
        pages.append(Opened(browser, url or served.url, **options))
        return pages[-1]

    yield work
    for one in pages:
        assert one.said == []
        assert {url for url in one.asked if not url.startswith(("data:", "blob:"))} == {
            url for url in one.asked if url.startswith("http://127.0.0.1:")
        }
        one.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_photo_that_is_dropped_is_labelled_and_explained(
    size: str, scheme: str, opened: Callable[..., Opened], trained: Trained
) -> None:
    page = opened(viewport=SIZES[size], color_scheme=scheme)
    assert page.text("knows") == "This model knows blue and red."
    page.drop(jpeg("red", 99), "ein Hund+100% 猫.jpg", "image/jpeg")
    assert page.answered() == "red"
    assert page.text("name") == "ein Hund+100% 猫.jpg"
    assert page.text("version") == trained.bundle.name
    bars = page.page.locator("#bars li")
    assert [one.split("\n")[0] for one in bars.all_inner_texts()] == ["red", "blue"]
    widths = page.page.evaluate("[...document.querySelectorAll('.bar div')].map((one) => one.clientWidth)")
    assert widths[0] > widths[1]
    assert page.text("status").startswith("red, ")
    page.page.get_by_role("button", name="Where does it see that?").click()
    page.wait("#why[aria-pressed='true']")
    assert page.page.evaluate("document.getElementById('heat').naturalWidth") == 128
    assert "Covers" not in page.text("why-told")
    photo, heat = (page.page.locator(name).bounding_box() for name in ("#photo", "#heat"))
    assert photo == heat
    page.page.get_by_role("button", name="Where does it see that?").click()
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
def test_what_is_no_photo_is_told_so_without_being_sent(
    name: str, kind: str, words: str, opened: Callable[..., Opened]
) -> None:
    page = opened()
    page.drop(b"hello", name, kind)
    page.wait("#error:not(:empty)")
    assert page.text("error").startswith(words)
    assert not page.page.locator("#result").is_visible()
    assert [url for url in page.asked if "predict" in url] == []
    page.drop(jpeg("blue", 99), "blue.jpg", "image/jpeg")
    assert (page.answered(), page.text("error")) == ("blue", "")


def test_a_photo_may_be_chosen_by_keyboard_taken_and_pasted(opened: Callable[..., Opened]) -> None:
    page = opened()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "file"
    chosen: list[Any] = []
    page.page.on("filechooser", lambda one: chosen.append(one))  # noqa: PLW0108 - Playwright takes no builtin
    for _ in range(10):  # a browser that is busy starting lets the first key pass
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
            const carried = new DataTransfer();
            carried.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], "p.png"));
            const event = { bubbles: true, cancelable: true, clipboardData: carried };
            document.body.dispatchEvent(new ClipboardEvent("paste", event));
        }""",
        base64.b64encode(jpeg("red", 97)).decode(),
    )
    page.wait("#name:has-text('p.png')")
    assert page.answered() == "red"


def large(colour: str, form: str, orientation: int = 1) -> bytes:
    """A photo of more than four million bytes."""
    noise = Image.effect_noise((2600, 1800), 90).convert("RGB")
    image, file = Image.blend(Image.new("RGB", noise.size, colour), noise, 0.3), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(file, form, exif=exif, quality=99)
    assert len(file.getvalue()) > 4_400_000
    return file.getvalue()


def test_a_photo_that_is_too_large_is_shrunk_before_it_is_sent(opened: Callable[..., Opened], tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(large("red", "JPEG", orientation=6))
    page = opened()
    page.page.set_input_files("#file", path)
    assert page.answered() == "red"
    before, after = (float(size) for size in re.findall(r"([\d.]+) MB", page.text("shrunk")))
    assert 0 < after < 4.0 < before


def test_a_large_file_that_the_browser_cannot_read_is_not_sent(opened: Callable[..., Opened], tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    path.write_bytes(large("red", "TIFF"))
    page = opened()
    page.page.set_input_files("#file", path)
    page.wait("#error:not(:empty)")
    assert "MB, and this browser cannot shrink it" in page.text("error")


def test_a_photo_that_only_the_function_can_read_is_labelled(opened: Callable[..., Opened], tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    Image.new("RGB", (64, 48), "blue").save(path, "TIFF")
    page = opened()
    page.page.set_input_files("#file", path)
    assert page.answered() == "blue"
    assert not page.page.locator("#photo").is_visible()


def test_bars_and_what_is_pressed_are_seen_where_the_system_has_its_own_colours(opened: Callable[..., Opened]) -> None:
    page = opened(forced_colors="active", viewport=SIZES["phone"])
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    assert page.answered() == "red"
    style = "(name) => { const found = getComputedStyle(document.querySelector(name)); return found."
    assert page.page.evaluate(style + "borderTopStyle }", ".bar") == "solid"
    assert page.page.evaluate(style + "outlineStyle }", "#why") == "none"
    page.page.get_by_role("button", name="Where does it see that?").click()
    page.wait("#why[aria-pressed='true']")
    page.page.evaluate("document.activeElement.blur()")
    assert page.page.evaluate(style + "outlineStyle }", "#why") == "solid"


def test_an_unsure_answer_is_shown_as_unknown(opened: Callable[..., Opened]) -> None:
    page = opened()
    top = [{"label": "red", "score": 0.61}, {"label": "blue", "score": 0.39}]
    answer = {"model_id": "other", "label": "unknown", "score": 0.61, "top": top}
    page.page.route("**/predict?*", lambda route: route.fulfill(json=answer))
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    assert page.answered() == "Unknown"
    assert page.text("sure") == "Not sure enough to say. The best guess is red, 61.0 %."
    assert "61.0 %" in page.page.locator("#bars li").first.inner_text()


def test_a_function_that_cannot_be_reached_is_told(opened: Callable[..., Opened]) -> None:
    page = opened()
    page.page.route("**/predict?*", lambda route: route.abort())
    page.drop(jpeg("red"), "a.jpg", "image/jpeg")
    page.wait("#error:not(:empty)")
    assert "cannot be reached" in page.text("error")
    assert not page.page.locator("#result").is_visible()
    page.said.clear()  # the browser tells of the failed request itself


def test_a_key_is_asked_for_where_the_function_asks_for_one(
    browser: "Browser", trained: Trained, tmp_path: Path
) -> None:
    with serving(tmp_path / "serve", "--bundle", str(trained.bundle), TRANSFERLITE_API_KEY="secret") as guarded:
        page = Opened(browser, guarded.url)
        key = page.page.get_by_label("API key")
        assert key.is_visible()
        assert page.said == []
        key.fill("wrong")
        key.press("Enter")
        page.wait("#error:has-text('asks for an API key')")
        page.wait("#key:focus")
        page.drop(jpeg("red"), "a.jpg", "image/jpeg")
        page.wait("#name:has-text('a.jpg')", state="attached")
        page.wait("#error:has-text('asks for an API key')")
        page.wait("#key:focus")
        key.fill("secret")
        key.press("Enter")
        assert page.answered() == "red"
        assert not key.is_visible()
        assert page.text("knows") == "This model knows blue and red."
        assert all("401" in line for line in page.said)
        page.page.context.close()
