"""Draw the report's figures with matplotlib as inline SVG in the page's font and colours, light or dark.

Figures are drawn in placeholder colours, which are then replaced by the page's CSS variables. pyplot is not used, so
matplotlib keeps no state.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from train_job.head.recipe import Epoch

INK, FAINT, LINE, ACCENT, OTHER, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "--ink", FAINT: "--faint", LINE: "--line", ACCENT: "--accent", OTHER: "--other", PAPER: "--paper"}

CONFUSION_CLASSES = 30
"""Most classes in a confusion matrix; for more, the report lists the most confused pairs."""
MAX_POINTS = 300
"""Most points of a curve."""
HIGHLIGHTED_CURVES = 6
"""Precision-recall curves drawn in colour, of the weakest classes; the others are faint."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "transferlite",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
}
_PIXELS = 4 / 3
"""CSS pixels per point of a figure."""


def loss_curve(history: "Sequence[Epoch]") -> str:
    """Draw the loss by epoch, for training and, if there are validation photos, for validation."""
    shown = _thinned(history)
    curves = [epoch.loss for epoch in shown], [epoch.val_loss for epoch in shown]
    draw = partial(_by_epoch, [epoch.epoch for epoch in shown], *curves, "loss")
    return _svg(draw, (4.4, 2.9), "loss", "Loss by epoch")


def accuracy_curve(history: "Sequence[Epoch]") -> str:
    """Draw the accuracy by epoch, for training and, if there are validation photos, for validation."""
    shown = _thinned(history)
    curves = [epoch.accuracy for epoch in shown], [epoch.val_accuracy for epoch in shown]
    draw = partial(_by_epoch, [epoch.epoch for epoch in shown], *curves, "accuracy")
    return _svg(draw, (4.4, 2.9), "accuracy", "Accuracy by epoch")


def _thinned(history: "Sequence[Epoch]") -> "list[Epoch]":
    return [*history[: -1 : -(-len(history) // MAX_POINTS)], history[-1]]


def _by_epoch(epochs: list[int], train: list[float], validation: list[float | None], name: str, figure: Figure) -> None:
    axes = figure.subplots()
    axes.set_xlabel("epoch")
    axes.set_ylabel(name)
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, train, color=ACCENT, label="training", marker=marker)
    if all(value is not None for value in validation):
        axes.plot(epochs, np.array(validation, float), color=OTHER, label="validation", marker=marker)
    if name == "loss":
        axes.set_ylim(bottom=0)
    axes.legend(loc="best")


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draw the confusion matrix: ``matrix[i][j]`` photos of class i were predicted as j; colour is the row's share."""
    classes = len(labels)
    names = [shorten(label, 18) for label in labels]
    side = min(0.62 * classes, 0.8 + 0.24 * classes) + 2.2

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(visible=False)
        for i, row in enumerate(matrix):
            for j, photos in enumerate(row):
                if photos:
                    _cell(axes, i, j, photos, photos / sum(row), 9.0 if classes <= 15 else 6.5)
        axes.set_xlim(0, classes)
        axes.set_ylim(classes, 0)
        axes.set_aspect("equal")
        centres = np.arange(classes) + 0.5
        axes.set_xticks(centres, names, rotation=45 if classes > 4 else 0, ha="right" if classes > 4 else "center")
        axes.set_yticks(centres, names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")

    return _svg(draw, (side, side), "confusion", "Confusion matrix: rows are the labels, columns the predictions")


def _cell(axes: "Axes", i: int, j: int, photos: int, share: float, size: float) -> None:
    opacity = 0.12 + 0.78 * share
    axes.add_patch(Rectangle((j, i), 1, 1, facecolor=ACCENT if i == j else OTHER, alpha=opacity, linewidth=0))
    colour = PAPER if opacity > 0.55 else INK
    axes.text(j + 0.5, i + 0.5, str(photos), ha="center", va="center", fontsize=size, color=colour)


def calibration(after: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]] = ()) -> str:
    """Draw the reliability diagram, accuracy against confidence by bin; a calibrated model lies on the diagonal.

    Each bin has ``confidence`` and ``accuracy`` from 0 to 1, and ``photos``.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        curves = ((before, OTHER, "before"), (after, ACCENT, "after calibration" if before else "test"))
        for bins, colour, name in curves:
            used = [group for group in bins if group.get("photos")]
            if used:
                _bins(axes, used, colour, name)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.legend(loc="upper left")

    return _svg(draw, (4.2, 4.0), "calibration", "Calibration: accuracy by confidence")


def _bins(axes: "Axes", bins: Sequence[Mapping[str, float]], colour: str, name: str) -> None:
    confidence, accuracy = [group["confidence"] for group in bins], [group["accuracy"] for group in bins]
    largest = max(group["photos"] for group in bins)
    sizes = [12 + 90 * group["photos"] / largest for group in bins]
    axes.plot(confidence, accuracy, color=colour, linewidth=1.2, label=name)
    axes.scatter(confidence, accuracy, s=sizes, color=colour, alpha=0.85, linewidths=0)


def precision_recall(curves: Mapping[str, Mapping[str, Sequence[float]]], worst: Sequence[str]) -> str:
    """Draw the precision-recall curve of every class; the ``worst`` are coloured and named."""
    styles = ["-", "--", "-.", ":", (0, (1, 1)), (0, (5, 1))]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label in curves.keys() - set(worst):
            axes.plot(*_points(curves[label]), color=LINE, linewidth=0.9)
        for index, label in enumerate(worst[:HIGHLIGHTED_CURVES]):
            colour = ACCENT if index % 2 == 0 else OTHER
            name = f" {shorten(label, 24)}"  # matplotlib leaves names that begin with _ out of the legend
            axes.plot(*_points(curves[label]), color=colour, linestyle=styles[index // 2 % len(styles)], label=name)
        axes.set_xlim(0, 1.01)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.legend(loc="lower left")

    return _svg(draw, (4.6, 4.0), "recall", "Precision against recall by class")


def _points(curve: Mapping[str, Sequence[float]]) -> tuple[Any, Any]:
    recall, precision = np.array(curve["recall"], float), np.array(curve["precision"], float)
    indices = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), MAX_POINTS)).astype(int))
    return recall[indices], precision[indices]


def shorten(text: str, max_length: int) -> str:
    """Cut a text longer than ``max_length`` characters and end it with an ellipsis."""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


# -- drawing -----------------------------------------------------------------------------------------------------


def _svg(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> str:
    """Draw a figure of ``size`` inches as a scalable ``<svg>`` element whose ids start with ``name``."""
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # glyphs missing from matplotlib's font; the browser has them
        figure = Figure(size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue(), name, title)


def _inline(document: str, name: str, title: str) -> str:
    """Turn matplotlib's SVG document into an element for the page, without its own style."""
    body = document[document.index(">", document.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda tag: _restyled(tag[0], name), body)
    size = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', document)
    assert size is not None
    width, height = float(size[1]), float(size[2])
    head = f'<svg role="img" aria-label="{title}" viewBox="0 0 {width:g} {height:g}"'
    scale = f'style="width: {width * _PIXELS:.0f}px"'
    return f'{head} xmlns:xlink="http://www.w3.org/1999/xlink" {scale}>{body}'


def _restyled(tag: str, name: str) -> str:
    """Replace a tag's colours by the page's, drop its font, and make its ids unique to the figure."""
    tag = re.sub(r"\s+", " ", tag).replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-')
    tag = re.sub(r" ?font-family: [^;\"]*;?", "", tag.replace("url(#", f"url(#{name}-"))
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag
