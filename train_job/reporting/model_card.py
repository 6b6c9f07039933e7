"""``MODEL_CARD.md``: what the model is for, what it learnt from, how good it is and where it is not, in plain words.

The headings are those of model cards (Mitchell et al. 2019, https://arxiv.org/abs/1810.03993) as Hugging Face has them.
"""

import re

from train_job.reporting.formatting import interval, percent
from train_job.reporting.html_report import SPLITS, abstention, class_photos, notes, templates, variants, worst_classes
from train_job.reporting.report_data import ReportData

MODEL_CARD = "MODEL_CARD.md"

MOST_CLASSES = 50
"""In each table; all are in the report and in ``labels.txt``."""


def render(data: ReportData) -> str:
    """The card, from the same facts as the report."""
    environment = templates(autoescape=False)
    environment.filters["md"] = plain
    manifest = data.manifest
    labels = [plain(label) for label in manifest.labels[:MOST_CLASSES]]
    options = [(name, value) for name, value in manifest.training.items() if value not in (None, "", [])]
    text = environment.get_template("model_card.md.j2").render(
        data=data,
        manifest=manifest,
        test=data.keras,
        headline=headline(data),
        labels=", ".join(labels) + (", …" if len(manifest.labels) > MOST_CLASSES else ""),
        classes=class_photos(data)[:MOST_CLASSES],
        worst=worst_classes(data)[:MOST_CLASSES],
        folds=data.evaluation.get("folds"),
        threshold=abstention(data)["threshold"],
        variants=variants(data),
        notes=notes(data),
        options=options,
        splits=SPLITS,
    )
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def headline(data: ReportData) -> str:
    """The version in one sentence: its accuracy, with its interval where there is one."""
    test = data.keras
    bounds = interval(test.get("interval"))
    right = f"Right on {percent(test.get('accuracy'))} of {test.get('photos', 0):,} test photos"
    return right + (f" (95 % interval {bounds})" if bounds else "")


def plain(value: object) -> str:
    """A user's text so that Markdown shows it as it is: one line, its signs escaped."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", line)
