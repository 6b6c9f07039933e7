"""The report's figures: matplotlib to inline SVG whose colours and font are the page's, light or dark.

Every figure is drawn in colours that stand for the page's variables, and they are put in their place afterwards. There
is no pyplot, and so no state beyond a figure.
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
"""As many classes are a picture; of more, the worst pairs are listed."""
MOST_POINTS = 300
"""Of longer curves, so many points are drawn."""
CURVES = 6
"""Precision and recall are drawn in colour of the worst so many classes; the others are faint."""

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
"""CSS pixels of one of the figure's points."""


def loss_curve(history: "Sequence[Epoch]") -> str:
    """Loss by epoch, of training and of validation where there were such photos."""
    shown = _thinned(history)
    lines = [one.loss for one in shown], [one.val_loss for one in shown]
    draw = partial(_by_epoch, [one.epoch for one in shown], *lines, "loss")
    return _svg(draw, (4.4, 2.9), "loss", "Loss by epoch")


def accuracy_curve(history: "Sequence[Epoch]") -> str:
    """Accuracy by epoch, of training and of validation where there were such photos."""
    shown = _thinned(history)
    lines = [one.accuracy for one in shown], [one.val_accuracy for one in shown]
    draw = partial(_by_epoch, [one.epoch for one in shown], *lines, "accuracy")
    return _svg(draw, (4.4, 2.9), "accuracy", "Accuracy by epoch")


def _thinned(history: "Sequence[Epoch]") -> "list[Epoch]":
    return [*history[: -1 : -(-len(history) // MOST_POINTS)], history[-1]]


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
    """``matrix[i][j]`` photos of class i were called j: the stronger the colour, the larger the share of the row."""
    classes = len(labels)
    names = [shortened(label, 18) for label in labels]
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
        middles = np.arange(classes) + 0.5
        axes.set_xticks(middles, names, rotation=45 if classes > 4 else 0, ha="right" if classes > 4 else "center")
        axes.set_yticks(middles, names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("labelled")

    return _svg(draw, (side, side), "confusion", "Confusion matrix: rows are the labels, columns the predictions")


def _cell(axes: "Axes", i: int, j: int, photos: int, share: float, size: float) -> None:
    opacity = 0.12 + 0.78 * share
    axes.add_patch(Rectangle((j, i), 1, 1, facecolor=ACCENT if i == j else OTHER, alpha=opacity, linewidth=0))
    colour = PAPER if opacity > 0.55 else INK
    axes.text(j + 0.5, i + 0.5, str(photos), ha="center", va="center", fontsize=size, color=colour)


def calibration(after: Sequence[Mapping[str, float]], before: Sequence[Mapping[str, float]] = ()) -> str:
    """Accuracy against confidence, by bin: on the diagonal a model is as often right as it says.

    Each bin has ``confidence`` and ``accuracy`` from 0 to 1, and ``photos``.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        for bins, colour, name in ((before, OTHER, "before"), (after, ACCENT, "after scaling" if before else "test")):
            used = [one for one in bins if one.get("photos")]
            if used:
                _bins(axes, used, colour, name)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence")
        axes.set_ylabel("share right")
        axes.legend(loc="upper left")

    return _svg(draw, (4.2, 4.0), "calibration", "Calibration: how often the model is right for each confidence")


def _bins(axes: "Axes", bins: Sequence[Mapping[str, float]], colour: str, name: str) -> None:
    confidence, accuracy = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
    largest = max(one["photos"] for one in bins)
    sizes = [12 + 90 * one["photos"] / largest for one in bins]
    axes.plot(confidence, accuracy, color=colour, linewidth=1.2, label=name)
    axes.scatter(confidence, accuracy, s=sizes, color=colour, alpha=0.85, linewidths=0)


def precision_recall(curves: Mapping[str, Mapping[str, Sequence[float]]], worst: Sequence[str]) -> str:
    """Precision against recall of every class; the ``worst`` are named."""
    styles = ["-", "--", "-.", ":", (0, (1, 1)), (0, (5, 1))]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label in curves.keys() - set(worst):
            axes.plot(*_points(curves[label]), color=LINE, linewidth=0.9)
        for place, label in enumerate(worst[:CURVES]):
            colour = ACCENT if place % 2 == 0 else OTHER
            name = f" {shortened(label, 24)}"  # a label that begins with _ would not be shown
            axes.plot(*_points(curves[label]), color=colour, linestyle=styles[place // 2 % len(styles)], label=name)
        axes.set_xlim(0, 1.01)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.legend(loc="lower left")

    return _svg(draw, (4.6, 4.0), "recall", "Precision against recall by class")


def _points(curve: Mapping[str, Sequence[float]]) -> tuple[Any, Any]:
    recall, precision = np.array(curve["recall"], float), np.array(curve["precision"], float)
    places = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), MOST_POINTS)).astype(int))
    return recall[places], precision[places]


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


# -- drawing -----------------------------------------------------------------------------------------------------


def _svg(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> str:
    """One figure of ``size`` inches as an ``<svg>`` element that scales, its ids begun with ``name``."""
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # glyphs that our font lacks: the reader's will have them
        figure = Figure(size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(file.getvalue(), name, title)


def _inlined(document: str, name: str, title: str) -> str:
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
    """A tag in the page's colours and font, its id one of this figure alone."""
    tag = re.sub(r"\s+", " ", tag).replace('id="', f'id="{name}-').replace('href="#', f'href="#{name}-')
    tag = re.sub(r" ?font-family: [^;\"]*;?", "", tag.replace("url(#", f"url(#{name}-"))
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag
