"""Render ``report.html``, a self-contained page on a version, its data and its mistakes, readable from a disk or S3.

The page has no scripts and makes no requests: style, figures (SVG) and thumbnails (data URIs) are inline, and its
content security policy forbids everything else. All lists are limited, and so is the size of the page.
"""

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from train_job.reporting import plots
from train_job.reporting.formatting import FILTERS, interval, share
from train_job.reporting.report_data import ReportData

REPORT_HTML = "report.html"

MAX_THUMBNAIL_BYTES = 3_000_000
"""Total size of the thumbnails before base64; entries beyond it have none."""
MAX_CLASSES = 200
MAX_REJECTED_PHOTOS = 50
MAX_MISTAKES = 24
MAX_LABEL_ISSUES = 48
MAX_GROUPS = 24
MAX_PHOTOS_PER_GROUP = 4
MAX_CONFUSED_PAIRS = 20
MAX_CURVES = 100

FIGURES = ("loss", "learning", "confusion", "recall", "calibration")
SPLITS = ("train", "validation", "test")


def render(data: ReportData) -> str:
    """Render the page, less than 5 MB whatever the size of the data set."""
    thumbnails = _Thumbnails()
    template = templates().get_template("report.html.j2")
    return template.render(
        data=data,
        manifest=data.manifest,
        test=data.test_metrics,
        calibration=_calibration(data),
        validated=_validated(data),
        folds=data.evaluation.get("folds"),
        notes=notes(data),
        classes=class_photos(data),
        codes=codes(data),
        rejected=data.rejected_photos[:MAX_REJECTED_PHOTOS],
        figures=_figures(data),
        worst=worst_classes(data)[:MAX_CLASSES],
        pairs=confused_pairs(data)[:MAX_CONFUSED_PAIRS],
        abstention=abstention(data),
        variants=variants(data),
        class_changes=class_changes(data),
        mistakes=data.mistakes[:MAX_MISTAKES],
        label_issues=data.label_issues[:MAX_LABEL_ISSUES],
        groups=[group[:MAX_PHOTOS_PER_GROUP] for group in data.near_duplicates[:MAX_GROUPS]],
        leakage=_leakage(data),
        phases=_phases(data.seconds),
        lambda_costs=_lambda_costs(data),
        thumbnail=thumbnails.uri,
        splits=SPLITS,
    )


def templates(autoescape: bool = True) -> Environment:
    """The Jinja environment of the templates beside this file, with the filters that format numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS | {"shorten": plots.shorten}
    return environment


class _Thumbnails:
    """JPEGs as data URIs, until :data:`MAX_THUMBNAIL_BYTES` are used."""

    def __init__(self) -> None:
        self._remaining = MAX_THUMBNAIL_BYTES

    def uri(self, jpeg: bytes) -> str:
        """The data URI of a thumbnail; empty if there is none, or no room for it."""
        if not jpeg or len(jpeg) > self._remaining:
            return ""
        self._remaining -= len(jpeg)
        return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


# -- content ----------------------------------------------------------------------------------------------------------


def notes(data: ReportData) -> list[str]:
    """Warnings for the top of the page, as sentences."""
    warnings = [_sentence(warning) for warning in data.evaluation.get("warnings") or ()]
    comparison = data.comparison
    promotion = data.evaluation.get("promotion") or comparison or {}
    if promotion.get("promoted") is False:
        warnings.append("Not promoted: " + ("; ".join(promotion.get("reasons") or ()) or "--promote never") + ".")
    warnings += [_sentence(note) for note in (comparison or {}).get("notes") or ()]
    worst = worst_classes(data)
    if worst and (worst[0].get("f1") or 0) < 0.9 and worst[0].get("f1") is not None:
        warnings.append(f"The weakest class is {worst[0]['label']}: F1 {worst[0]['f1']:.3f}.")
    warnings += [f"Variant {name} was left out: {reason}." for name, reason in data.manifest.left_out.items()]
    if data.rejected_photos:
        warnings.append(f"{len(data.rejected_photos):,} photos or rows were rejected; see the quarantine.")
    if data.label_issues:
        warnings.append(f"{len(data.label_issues):,} photos are probably labelled wrong; no label was changed.")
    leakage = _leakage(data)
    if leakage:
        warnings.append(f"Near-duplicates are in more than one split ({len(leakage):,} findings).")
    scarce = [label for label, metrics in _test_classes(data).items() if metrics.get("photos", 0) < 10]
    if scarce:
        listed = ", ".join(scarce[:5]) + (", …" if len(scarce) > 5 else "")
        warnings.append(f"{len(scarce):,} classes have fewer than 10 test photos: {listed}.")
    return warnings


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _test_classes(data: ReportData) -> Mapping[str, Mapping[str, Any]]:
    classes: Mapping[str, Mapping[str, Any]] = data.test_metrics.get("classes") or {}
    return classes


def class_photos(data: ReportData) -> list[dict[str, Any]]:
    """Photos of each class by split, the largest class first."""
    metrics = data.manifest.metrics
    rows = []
    for label in data.manifest.labels:
        by_split = [
            ((metrics.get(split) or {}).get("classes") or {}).get(label, {}).get("photos", 0) for split in SPLITS
        ]
        rows.append({"label": label, "photos": by_split, "total": sum(by_split)})
    return sorted(rows, key=lambda row: -row["total"])[:MAX_CLASSES]


def codes(data: ReportData) -> list[tuple[str, int]]:
    """Number of rejected photos and findings by code, the most frequent first."""
    findings = data.findings
    counts = findings.get("codes") or {**(findings.get("rejects") or {}), **(findings.get("notes") or {})}
    counts = counts or Counter(photo.code for photo in data.rejected_photos)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def worst_classes(data: ReportData) -> list[dict[str, Any]]:
    """Metrics of each class on the test photos, the lowest F1 first, classes without test photos last."""
    unknown = {"precision": None, "recall": None, "f1": None}
    rows = [
        {"label": label, **metrics} | ({} if metrics.get("photos") else unknown)
        for label, metrics in _test_classes(data).items()
    ]
    return sorted(rows, key=lambda row: 2.0 if row.get("f1") is None else row["f1"])


def confused_pairs(data: ReportData) -> list[dict[str, Any]]:
    """Pairs of label and wrong prediction, the most photos first."""
    labels, matrix = data.manifest.labels, data.test_metrics.get("confusion") or []
    pairs = [
        {"label": labels[i], "predicted": labels[j], "photos": photos, "share": share(photos, sum(row))}
        for i, row in enumerate(matrix)
        for j, photos in enumerate(row)
        if photos and i != j
    ]
    return sorted(pairs, key=lambda pair: -pair["photos"])


def _validated(data: ReportData) -> bool:
    """Whether there were validation photos."""
    return bool(data.manifest.dataset.get("photos", {}).get("validation"))


def _calibration(data: ReportData) -> dict[str, Any]:
    """Calibration error before and after calibration by split, without a split that has no photos."""
    errors = data.evaluation.get("calibration") or {}
    return {split: error for split, error in errors.items() if error and (split != "validation" or _validated(data))}


def abstention(data: ReportData) -> dict[str, Any]:
    """Confidence thresholds for several precisions, their effect, and the chosen one."""
    record = data.evaluation.get("abstention") or {}
    rows = [
        {
            "precision": choice["precision"],
            "threshold": choice.get("threshold"),
            "chosen": choice["precision"] == record.get("precision"),
            **{split: _coverage_and_precision(choice.get(split)) for split in ("validation", "test")},
        }
        for choice in record.get("choices") or ()
    ]
    return {"precision": record.get("precision"), "threshold": record.get("threshold") or None, "rows": rows}


def _coverage_and_precision(counts: Mapping[str, int] | None) -> dict[str, str]:
    """Share of photos with a prediction, and share of correct predictions among them."""
    counts = counts or {}
    answered = counts.get("answered")
    return {"coverage": share(answered, counts.get("photos")), "precision": share(counts.get("right"), answered)}


def variants(data: ReportData) -> list[dict[str, Any]]:
    """Each variant that passed the gate, with the confidence interval of its accuracy if it was evaluated."""
    models = data.evaluation.get("models") or {}
    return [
        {
            "name": name,
            "facts": variant,
            "milliseconds": variant.milliseconds,
            "interval": interval((models.get(name) or {}).get("interval")),
        }
        for name, variant in data.manifest.variants.items()
    ]


def class_changes(data: ReportData) -> list[dict[str, Any]]:
    """Change of each class's recall against the current version, the greatest drop first."""
    rows = []
    for label, counts in ((data.comparison or {}).get("classes") or {}).items():
        before, after = (_recall(counts[side], counts["photos"]) for side in ("champion", "challenger"))
        change = None if before is None or after is None else after - before
        rows.append(
            {"label": label, "photos": counts["photos"], "champion": before, "challenger": after, "change": change}
            | {"p_value": counts.get("p_value"), "detectable": _detectable_drop(counts)}
        )
    return sorted(rows, key=lambda row: row["change"] or 0.0)[:MAX_CLASSES]


def _detectable_drop(counts: Mapping[str, Any]) -> str:
    """The smallest drop in recall that the promotion check of a class can detect, as text."""
    if counts.get("checked") is None:
        return "—"
    drop = counts.get("detectable")
    return "no check of its own" if not counts["checked"] else "none" if drop is None else f"{drop:.0%}"


def _recall(correct: float | None, photos: int) -> float | None:
    """Recall from the number of correct predictions; a float is the recall itself."""
    if correct is None or not photos:
        return None
    return correct / photos if isinstance(correct, int) else correct


def _leakage(data: ReportData) -> list[str]:
    """Near-duplicates across splits as text, from groups of URIs or from findings of the data check."""
    return [
        f"{leak['image']}: {leak['reason']}" if isinstance(leak, Mapping) else ", ".join(leak[:6])
        for leak in data.findings.get("leakage") or ()
    ]


def _phases(seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Seconds of each phase, with the width of its bar in percent."""
    phases = {name: value for name, value in seconds.items() if name != "total"}
    longest = max(phases.values(), default=0.0) or 1.0
    return [{"name": name, "seconds": value, "width": f"{100 * value / longest:.1f}"} for name, value in phases.items()]


def _lambda_costs(data: ReportData) -> list[dict[str, Any]]:
    """Cost of predictions on Lambda, a row per variant and memory with both architectures."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for price in data.receipt.predictions if data.receipt else ():
        empty = {"variant": price.variant, "memory": price.memory_mb, "usd": {}}
        row = rows.setdefault((price.variant, price.memory_mb), empty)
        row["milliseconds"] = price.milliseconds
        row["usd"][price.architecture] = price.usd_per_1000
    return list(rows.values())


# -- figures -----------------------------------------------------------------------------------------------------


def _figures(data: ReportData) -> dict[str, Markup]:
    """The figures by name; empty if there is nothing to draw."""
    test, labels = data.test_metrics, data.manifest.labels
    drawn = dict.fromkeys(FIGURES, "")
    if data.history:
        drawn["loss"], drawn["learning"] = plots.loss_curve(data.history), plots.accuracy_curve(data.history)
    if test.get("confusion") and len(labels) <= plots.CONFUSION_CLASSES:
        drawn["confusion"] = plots.confusion(test["confusion"], labels)
    if any(group.get("photos") for group in test.get("reliability") or ()):
        drawn["calibration"] = plots.calibration(test["reliability"], test.get("reliability_before") or ())
    curves = test.get("curves") or {}
    if 0 < len(curves) <= MAX_CURVES:
        worst = [row["label"] for row in worst_classes(data) if row["label"] in curves]
        drawn["recall"] = plots.precision_recall(curves, worst[: plots.HIGHLIGHTED_CURVES])
    return {name: Markup(svg) for name, svg in drawn.items()}
