"""The report in a real browser, offline."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.train_job.report_facts import facts
from train_job.reporting.html_report import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.enable_socket
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_from_a_disk_without_an_error_or_a_request(
    scheme: str, browser: "Browser", tmp_path: Path
) -> None:
    path = tmp_path / "a report.html"
    path.write_text(
        render(facts(("<b>&\"'", "猫", "red", "a_very_long_label_without_any_space_in_it" * 3))), encoding="utf-8"
    )
    page = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri(), wait_until="networkidle")
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") > 5
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # wide tables scroll by themselves
    for width in page.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width)"):
        assert 100 < width <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
