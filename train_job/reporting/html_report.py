"""``report.html``: one self-contained page on a version, its data and its mistakes, that opens from a disk or from S3.

No script and no request: the style, the figures (SVG) and the thumbnails (data URIs) are inside, and a policy in the
page forbids the rest. Every list is bounded, and so is the page.
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
"""Thumbnails beyond this are left out, their lines are not; base64 makes four bytes of three."""
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
    """The page, less than 5 MB whatever the size of the data set."""
    pictures = _Pictures()
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
        rejects=data.rejected_photos[:MAX_REJECTED_PHOTOS],
        figures=_figures(data),
        worst=worst_classes(data)[:MAX_CLASSES],
        pairs=confused_pairs(data)[:MAX_CONFUSED_PAIRS],
        abstention=abstention(data),
        variants=variants(data),
        compared=compared(data),
        mistakes=data.mistakes[:MAX_MISTAKES],
        suspects=data.label_issues[:MAX_LABEL_ISSUES],
        groups=[group[:MAX_PHOTOS_PER_GROUP] for group in data.near_duplicates[:MAX_GROUPS]],
        leakage=_leakage(data),
        phases=_phases(data.seconds),
        functions=_functions(data),
        picture=pictures.uri,
        splits=SPLITS,
    )


def templates(autoescape: bool = True) -> Environment:
    """The templates beside this file, and the filters that say figures in words."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS | {"shortened": plots.shorten}
    return environment


class _Pictures:
    """JPEGs as data URIs, as long as they fit in the page."""

    def __init__(self) -> None:
        self._left = MAX_THUMBNAIL_BYTES

    def uri(self, jpeg: bytes) -> str:
        """The data URI; empty where there is no picture or no room for it."""
        if not jpeg or len(jpeg) > self._left:
            return ""
        self._left -= len(jpeg)
        return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


# -- what the page says ------------------------------------------------------------------------------------------


def notes(data: ReportData) -> list[str]:
    """What a reader should look at first, in sentences."""
    found = []
    comparison = data.comparison
    if comparison and comparison.get("promoted") is False:
        found.append("Not promoted: " + ("; ".join(comparison.get("reasons") or ()) or "as asked for") + ".")
    found += [f"{note[:1].upper()}{note[1:]}." for note in (comparison or {}).get("notes") or ()]
    worst = worst_classes(data)
    if worst and (worst[0].get("f1") or 0) < 0.9 and worst[0].get("f1") is not None:
        found.append(f"The weakest class is {worst[0]['label']}: F1 {worst[0]['f1']:.3f}.")
    found += [f"{name} was left out: {reason}." for name, reason in data.manifest.left_out.items()]
    if data.rejected_photos:
        found.append(f"{len(data.rejected_photos):,} photos or rows are not used: see the quarantine.")
    if data.label_issues:
        found.append(f"{len(data.label_issues):,} labels look wrong: see the suspects. None was changed.")
    leakage = _leakage(data)
    if leakage:
        found.append(f"Photos that look alike are in more than one split ({len(leakage):,} such findings).")
    scarce = [label for label, one in _test_classes(data).items() if one.get("photos", 0) < 10]
    if scarce:
        some = ", ".join(scarce[:5]) + (", …" if len(scarce) > 5 else "")
        found.append(f"Fewer than 10 test photos speak for {len(scarce):,} of the classes ({some}).")
    return found


def _test_classes(data: ReportData) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = data.test_metrics.get("classes") or {}
    return found


def class_photos(data: ReportData) -> list[dict[str, Any]]:
    """Each class with its photos by split, the largest first."""
    metrics = data.manifest.metrics
    rows = []
    for label in data.manifest.labels:
        by_split = [
            ((metrics.get(split) or {}).get("classes") or {}).get(label, {}).get("photos", 0) for split in SPLITS
        ]
        rows.append({"label": label, "photos": by_split, "total": sum(by_split)})
    return sorted(rows, key=lambda row: -row["total"])[:MAX_CLASSES]


def codes(data: ReportData) -> list[tuple[str, int]]:
    """What was found in the photos or left out, by code, the most frequent first."""
    told = data.findings
    counts = told.get("codes") or {**(told.get("rejects") or {}), **(told.get("notes") or {})}
    counts = counts or Counter(reject.code for reject in data.rejected_photos)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def worst_classes(data: ReportData) -> list[dict[str, Any]]:
    """The classes with what the test photos say of each, the lowest F1 first, those without a photo last."""
    unknown = {"precision": None, "recall": None, "f1": None}
    rows = [
        {"label": label, **one} | ({} if one.get("photos") else unknown) for label, one in _test_classes(data).items()
    ]
    return sorted(rows, key=lambda row: 2.0 if row.get("f1") is None else row["f1"])


def confused_pairs(data: ReportData) -> list[dict[str, Any]]:
    """Which class was called which, the most photos first."""
    labels, matrix = data.manifest.labels, data.test_metrics.get("confusion") or []
    pairs = [
        {"label": labels[i], "predicted": labels[j], "photos": photos, "share": share(photos, sum(row))}
        for i, row in enumerate(matrix)
        for j, photos in enumerate(row)
        if photos and i != j
    ]
    return sorted(pairs, key=lambda pair: -pair["photos"])


def _validated(data: ReportData) -> bool:
    """Whether there were validation photos to fit anything on."""
    return bool(data.manifest.dataset.get("photos", {}).get("validation"))


def _calibration(data: ReportData) -> dict[str, Any]:
    told = data.evaluation.get("calibration") or {}
    return {name: one for name, one in told.items() if one and (name != "validation" or _validated(data))}


def abstention(data: ReportData) -> dict[str, Any]:
    """The choices of the threshold below which the answer is ``unknown``, and which one was made."""
    told = data.evaluation.get("abstention") or {}
    rows = [
        {
            "precision": choice["precision"],
            "threshold": choice.get("threshold"),
            "chosen": choice["precision"] == told.get("precision"),
            **{split: _answered(choice.get(split)) for split in ("validation", "test")},
        }
        for choice in told.get("choices") or ()
    ]
    return {"precision": told.get("precision"), "threshold": told.get("threshold") or None, "rows": rows}


def _answered(counts: Mapping[str, int] | None) -> dict[str, str]:
    counts = counts or {}
    answered = counts.get("answered")
    return {"answered": share(answered, counts.get("photos")), "right": share(counts.get("right"), answered)}


def variants(data: ReportData) -> list[dict[str, Any]]:
    """Each variant that passed the gate, with its accuracy's interval where it was evaluated."""
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


def compared(data: ReportData) -> list[dict[str, Any]]:
    """The classes of the comparison with the champion, the greatest loss first."""
    rows = []
    for label, one in ((data.comparison or {}).get("classes") or {}).items():
        before, after = (_rate(one[side], one["photos"]) for side in ("champion", "challenger"))
        change = None if before is None or after is None else after - before
        rows.append(
            {"label": label, "photos": one["photos"], "champion": before, "challenger": after, "change": change}
            | {"p_value": one.get("p_value"), "finds": _finds(one)}
        )
    return sorted(rows, key=lambda row: row["change"] or 0.0)[:MAX_CLASSES]


def _finds(one: Mapping[str, Any]) -> str:
    """The drop in recall that a class's promotion check finds, in words."""
    if one.get("checked") is None:
        return "—"
    drop = one.get("detectable")
    return "no check of its own" if not one["checked"] else "none" if drop is None else f"{drop:.0%}"


def _rate(right: float | None, photos: int) -> float | None:
    """A share: of right answers where they are counted, or the share itself."""
    if right is None or not photos:
        return None
    return right / photos if isinstance(right, int) else right


def _leakage(data: ReportData) -> list[str]:
    """Each leak in words, whether it is a group of URIs or a finding of the check."""
    found = data.findings.get("leakage") or ()
    return [f"{one['image']}: {one['reason']}" if isinstance(one, Mapping) else ", ".join(one[:6]) for one in found]


def _phases(seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    parts = {name: value for name, value in seconds.items() if name != "total"}
    most = max(parts.values(), default=0.0) or 1.0
    return [{"name": name, "seconds": value, "width": f"{100 * value / most:.1f}"} for name, value in parts.items()]


def _functions(data: ReportData) -> list[dict[str, Any]]:
    """Predictions on Lambda, a line for each variant and memory, with both architectures."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for one in data.receipt.predictions if data.receipt else ():
        row = rows.setdefault(
            (one.variant, one.memory_mb), {"variant": one.variant, "memory": one.memory_mb, "usd": {}}
        )
        row["milliseconds"] = one.milliseconds
        row["usd"][one.architecture] = one.usd_per_1000
    return list(rows.values())


# -- figures -----------------------------------------------------------------------------------------------------


def _figures(data: ReportData) -> dict[str, Markup]:
    """The figures; empty where there is nothing to draw."""
    test, labels = data.test_metrics, data.manifest.labels
    drawn = dict.fromkeys(FIGURES, "")
    if data.history:
        drawn["loss"], drawn["learning"] = plots.loss_curve(data.history), plots.accuracy_curve(data.history)
    if test.get("confusion") and len(labels) <= plots.CONFUSION_CLASSES:
        drawn["confusion"] = plots.confusion(test["confusion"], labels)
    if any(one.get("photos") for one in test.get("reliability") or ()):
        drawn["calibration"] = plots.calibration(test["reliability"], test.get("reliability_before") or ())
    curves = test.get("curves") or {}
    if 0 < len(curves) <= MAX_CURVES:
        worst = [row["label"] for row in worst_classes(data) if row["label"] in curves]
        drawn["recall"] = plots.precision_recall(curves, worst[: plots.HIGHLIGHTED_CURVES])
    return {name: Markup(svg) for name, svg in drawn.items()}
