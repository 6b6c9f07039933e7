import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.train_job.report_facts import confusion_of, facts, manifest_facts
from train_job.data.example import RejectedPhoto
from train_job.head.recipe import Epoch
from train_job.reporting import model_card, plots
from train_job.reporting.formatting import dollars, duration, hourly, interval, percent, share
from train_job.reporting.html_report import confused_pairs, render
from train_job.reporting.report_data import ReportData
from transferlite.registry.manifest import GateResult, Variant

HOSTILE = ('<b>&"', "'><script>alert(1)</script>", "$x$ _a|b`", "猫 🐈", "#010101 url(#x)")
SECTIONS = {"data", "training", "accuracy", "confidence", "variants", "promotion"}
SECTIONS |= {"mistakes", "label-issues", "duplicates", "cost"}
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page's text and elements; fails on elements that are not nested correctly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full() -> ReportData:
    return facts(HOSTILE)


@pytest.fixture(scope="module")
def page(full: ReportData) -> Page:
    return Page(render(full))


def bare() -> ReportData:
    """A version that consists of its manifest alone."""
    return ReportData(manifest=manifest_facts(("blue", "red"), 20), evaluation={})


def test_every_section_is_present_and_linked(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.elements}
    links = {str(link["href"]).removeprefix("#") for link in page.of("a")}
    assert links == SECTIONS
    assert links <= ids
    assert len(page.of("svg")) == 5
    for words in ("truncated", "Not promoted", "this machine, 2 cores", "87.6 to 94.1", "left out", "1.83"):
        assert words in page.text.replace("\u00a0", " ")


def test_labels_are_shown_literally_and_never_run(page: Page, full: ReportData) -> None:
    for label in HOSTILE:
        assert label in page.text
    assert not page.of("script")
    assert not page.of("b")
    assert {image["alt"] for image in page.of("img")} >= {f"Photo labelled {HOSTILE[0]}"}
    assert HOSTILE[4] in re.findall(r">([^<]*)</text>", plots.confusion([[1, 0], [0, 1]], ["a", HOSTILE[4]]))


def test_the_page_requests_nothing_outside_itself(page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
        assert "url(" not in (attributes.get("style") or "") or "url(#" in str(attributes["style"])
    assert "@import" not in page.text
    assert "default-src 'none'" in str(page.of("meta"))


def test_images_and_tables_have_text_alternatives(page: Page) -> None:
    assert all(image.get("alt") for image in page.of("img"))
    assert all(figure.get("aria-label") for figure in page.of("svg"))
    assert all(cell.get("scope") in {"row", "col"} for cell in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table"))
    assert [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)][:2] == ["h1", "h2"]


def test_ids_are_unique_in_the_page(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(set(ids)) == len(ids)


def test_the_figures_have_the_pages_colours_and_font(full: ReportData) -> None:
    svgs = re.findall(r"<svg.*?</svg>", render(full), re.DOTALL)
    for svg in svgs:
        tags = "".join(re.findall(r"<[^>]*>", svg))
        assert not re.search(r"#[0-9a-f]{6}\b", tags)
        assert "font-family" not in tags
        assert "var(--" in tags


def test_a_manifest_alone_gives_a_report_and_a_card() -> None:
    page = Page(render(bare()))
    assert {str(link["href"]) for link in page.of("a")} == {"#data", "#accuracy", "#variants"}
    assert "—" in page.text
    assert "## Evaluation" in model_card.render(bare())


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": None, "temperature": None, "folds": None, "abstention": None},
        {"abstention": {"precision": None, "threshold": 0.0, "choices": []}},
        {"calibration": {"test": {"before": 0.1, "after": 0.1}, "validation": None}},
        {"models": {}},
        {"abstention": {"precision": 0.9, "threshold": 0.0, "choices": [{"precision": 0.9, "threshold": None}]}},
    ],
)
def test_parts_of_the_evaluation_may_be_missing(changes: dict[str, Any]) -> None:
    data = facts()
    Page(render(replace(data, evaluation={**data.evaluation, **changes})))


def test_a_class_without_a_test_photo_is_not_the_weakest() -> None:
    data = facts(("blue", "red", "green"))
    keras = dict(data.test_metrics)
    keras["classes"] = {**keras["classes"], "green": {"photos": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}}
    data = replace(data, evaluation={**data.evaluation, "models": {"keras": keras}})
    text = Page(render(data)).text
    assert "The weakest class is green" not in text
    assert "1 classes have fewer than 10 test photos: green" in text
    assert "1 classes have fewer than 10 test photos: green" in model_card.render(data)


def test_without_validation_photos_no_calibration_is_reported() -> None:
    data = facts()
    dataset = {**data.manifest.dataset, "photos": {"train": 8, "validation": 0, "test": 2}}
    text = Page(render(replace(data, manifest=replace(data.manifest, dataset=dataset)))).text
    assert "Probabilities are not calibrated: there were no validation photos" in text
    assert "4.80" not in text


def test_findings_in_the_form_of_the_data_check_are_shown() -> None:
    leak = {"image": "s3://b/a.jpg", "row": 2, "reason": "looks like b.jpg of the test"}
    findings = {"rejects": {"truncated": 7}, "notes": {"cmyk": 3}, "leakage": [leak]}
    text = Page(render(replace(facts(), findings=findings))).text
    assert re.search(r"truncated\s*7\s*cmyk\s*3", text)
    assert "s3://b/a.jpg: looks like b.jpg of the test" in text


def test_a_comparison_without_a_decision_shows_only_its_reasons() -> None:
    data = facts()
    undecided = {name: value for name, value in (data.comparison or {}).items() if name != "promoted"}
    for text in (render(replace(data, comparison=undecided)), model_card.render(replace(data, comparison=undecided))):
        assert "romoted" not in text
        assert "Reasons against promotion:" in text


def test_the_comparison_shows_its_levels_each_class_and_what_it_cannot_find() -> None:
    text = Page(render(facts(("blue", "red")))).text
    assert re.search(r"drops by more than 2.0% .*levels: 0.02 for all classes together \(Holm\), 0.04", text)
    assert re.search(r"blue\s*50\s*96.0%\s*96.0%\s*\+0.0\s*0.125\s*17%", text)
    assert re.search(r"red\s*50\s*96.0%\s*94.0%\s*-2.0\s*0.125\s*no check of its own", text)
    assert "Promotion check: fewer than 5 test photos in 1 of 2 classes." in text


def test_a_comparison_of_an_earlier_release_is_shown_without_what_it_lacks() -> None:
    data = facts(("blue", "red"))
    earlier = {name: value for name, value in (data.comparison or {}).items() if name not in {"levels", "notes"}}
    earlier["classes"] = {"blue": {"photos": 50, "champion": 48, "challenger": 47}}
    assert re.search(r"blue\s*50\s*96.0%\s*94.0%\s*-2.0\s*—\s*—", Page(render(replace(data, comparison=earlier))).text)


def test_many_classes_have_a_list_of_confusions_instead_of_a_matrix() -> None:
    data = facts(tuple(f"class {n}" for n in range(31)), 2000, 1)
    page = Page(render(data))
    assert "Most frequent confusions" in page.text
    assert not [figure for figure in page.of("svg") if "Confusion" in str(figure["aria-label"])]
    pairs = confused_pairs(data)
    matrix = confusion_of(31, 2000)
    assert pairs[0]["photos"] == max(matrix[i][j] for i in range(31) for j in range(31) if i != j)


def test_a_report_of_10000_photos_and_100_classes_stays_under_5_mb() -> None:
    data = facts(tuple(f"a class with a rather long name, number {n}" for n in range(100)), 10_000, 300)
    data = replace(data, rejected_photos=[*data.rejected_photos] * 20)
    html = render(data)
    assert 1_000_000 < len(html.encode()) < 5_000_000
    page = Page(html)
    assert page.text.count("cannot be decoded") == 50
    assert "Showing 50 of 6,000 rejected photos and rows" in page.text
    assert len(model_card.render(data)) < 50_000


def test_large_thumbnails_are_left_out_to_keep_the_limit() -> None:
    data = facts(lists=2)
    heavy = [replace(issue, thumbnail=issue.thumbnail + bytes(2_000_000)) for issue in data.label_issues]
    html = render(replace(data, label_issues=heavy))
    assert len(html) < 5_000_000
    assert "no thumbnail" in Page(html).text


def test_a_left_out_variant_has_its_reason_and_a_measured_one_its_latency() -> None:

    data = facts()
    timed = Variant("float32.tflite", 13_400_000, "ai-edge-litert", 250, 0.912, 1.0, 1e-6, 6.71)
    data = replace(data, manifest=replace(data.manifest, variants={"float32": timed}))
    for text in (Page(render(data)).text, model_card.render(data)):
        words = text.replace("\u00a0", " ")
        assert "6.7 ms" in words
        assert "12.8 MiB" in words
        assert "agreement 0.50 is below 0.95" in words


def test_each_variant_is_listed_per_runtime_and_failures_have_reasons() -> None:
    gate = (
        GateResult("float32", "ai-edge-litert 2.3.0", 250, 0.912, 0.0, 0.0, 1.0, 1.2e-6),
        GateResult("dynamic", "tflite-runtime 2.14.0", 50, 0.5, 0.412, 0.75, 0.52, None, "25 of 50 photos right"),
        GateResult("float16", "tflite-runtime 2.14.0", failure="the runtime ended"),
    )
    data = facts()
    mixed = Variant(
        "int8.tflite", 4_000_000, "ai-edge-litert", 250, 0.91, 0.99, 0.1, 3.0, ("block1/conv", "block1/relu")
    )
    data = replace(data, manifest=replace(data.manifest, gate=gate, variants={"int8": mixed}))
    for text in (Page(render(data)).text, model_card.render(data)):
        words = text.replace("\u00a0", " ").replace("\\", "")
        for part in (
            "1.2e-06",
            "tflite-runtime 2.14.0",
            "41.2%",
            "75.0%",
            "not finite",
            "25 of 50",
            "the runtime ended",
        ):
            assert part in words, part
        assert "2 of its operations compute in float32" in words
        assert "block1/conv, block1/relu" in words


@pytest.mark.parametrize("epochs", [1, 1000])
def test_learning_curves_of_one_and_a_thousand_epochs(epochs: int) -> None:
    history = [Epoch(n + 1, 0.5, 0.5) for n in range(epochs)]
    for svg in (plots.loss_curve(history), plots.accuracy_curve(history)):
        assert "validation" not in svg
        assert len(svg) < 40_000


def test_drawing_changes_no_matplotlib_setting_and_warns_of_no_glyph() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion([[1, 0], [0, 1]], ["猫", "犬"])
    assert dict(matplotlib.rcParams) == before


def test_the_same_facts_give_the_same_page(full: ReportData) -> None:
    assert render(full) == render(full)


# -- the model card ----------------------------------------------------------------------------------------------


def test_the_card_has_the_usual_headings_and_metrics() -> None:
    card = model_card.render(facts())
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "Model details",
        "Intended use",
        "Training data",
        "Training procedure",
        "Evaluation",
        "Limits",
        "How to use",
    ]
    assert card.startswith("---\nlibrary_name: keras\n")
    for words in (
        "87.6 to 94.1",
        "or `unknown` if its confidence is below 0.612",
        "Not promoted: blue loses 4",
        "float32.tflite",
    ):
        assert words in card.replace("\u00a0", " ")


def test_labels_do_not_break_the_cards_tables(full: ReportData) -> None:
    card = model_card.render(full)
    rows = [line for line in card.splitlines() if line.startswith("| ") and "script" in line]
    assert len(rows) == 2
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) in {5, 6}
        assert "<script" not in row.replace("\\<", "")
    assert "$x$ _a|b`" not in card


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.912), "91.2%"),
        (percent(None), "—"),
        (percent(float("nan")), "—"),
        (share(3, 0), "—"),
        (interval(None), ""),
        (duration(0.344), "0.34 s"),
        (duration(185), "3 min 05 s"),
        (duration(7800), "2 h 10 min"),
        (dollars(0), "$0.00"),
        (dollars(1234.5), "$1,234.50"),
        (dollars(0.526), "$0.53"),
        (dollars(0.000401), "$0.00040"),
        (hourly(0.1785), "$0.1785"),
        (hourly(0.145), "$0.145"),
    ],
)
def test_numbers_are_formatted_for_readers(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected


def test_a_rejected_photo_without_a_row_has_an_empty_cell() -> None:
    page = Page(render(replace(facts(), rejected_photos=[RejectedPhoto("a.jpg", None, "empty", "the file is empty")])))
    assert "a.jpg" in page.text
    assert "None" not in page.text
