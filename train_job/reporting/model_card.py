"""Write ``MODEL_CARD.md``: intended use, training data, evaluation and limits of a version.

The headings are those of model cards (Mitchell et al. 2019, https://arxiv.org/abs/1810.03993) as Hugging Face has them.
"""

import re

from train_job.reporting.formatting import interval, percent
from train_job.reporting.html_report import SPLITS, abstention, class_photos, notes, templates, variants, worst_classes
from train_job.reporting.report_data import ReportData

MODEL_CARD = "MODEL_CARD.md"

MAX_CLASSES = 50
"""Most classes in each table; the report and ``labels.txt`` have all."""


def render(data: ReportData) -> str:
    """Render the model card from the facts of the report."""
    environment = templates(autoescape=False)
    environment.filters["md"] = escape_markdown
    manifest = data.manifest
    labels = [escape_markdown(label) for label in manifest.labels[:MAX_CLASSES]]
    options = [(name, value) for name, value in manifest.training.items() if value not in (None, "", [])]
    text = environment.get_template("model_card.md.j2").render(
        data=data,
        manifest=manifest,
        test=data.test_metrics,
        headline=headline(data),
        labels=", ".join(labels) + (", …" if len(manifest.labels) > MAX_CLASSES else ""),
        classes=class_photos(data)[:MAX_CLASSES],
        worst=worst_classes(data)[:MAX_CLASSES],
        folds=data.evaluation.get("folds"),
        threshold=abstention(data)["threshold"],
        variants=variants(data),
        notes=notes(data),
        options=options,
        splits=SPLITS,
    )
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def headline(data: ReportData) -> str:
    """The accuracy in one sentence, with its confidence interval if it is known."""
    test = data.test_metrics
    bounds = interval(test.get("interval"))
    photos = "cross-validated photos" if data.evaluation.get("cross_validated") else "test photos"
    accuracy = f"Accuracy {percent(test.get('accuracy'))} on {test.get('photos', 0):,} {photos}"
    return accuracy + (f" (95% confidence interval {bounds})" if bounds else "")


def escape_markdown(value: object) -> str:
    """Escape a text so that Markdown shows it literally, on one line."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", line)
