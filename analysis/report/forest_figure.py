"""Forest plots: a difference in each subject with its interval, over subjects, and of a new one."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from scipy import stats

from analysis.report.figures import COLOURS, GREY, INK, STYLE, WIDTH
from analysis.subjects.heterogeneity import SubjectEffects
from ssense.retrieval import metric_title

_NORMAL = float(stats.norm.isf(0.025))
_PER_ROW = 2
_TALLEST = 8.0  # points, a square whose subject had all the weight
_ROW_INCH = 0.17


def forest_figure(effects: Sequence[SubjectEffects], metric: str) -> Figure:
    """Draw differences in points of a metric, a panel each, subjects from the top.

    A square is a subject's difference, larger where it counts more, with plus and minus 1.96 of its
    standard errors; the diamond is the mean over subjects with its 95 % interval, and the line
    below it where 95 % of new subjects' true differences lie.

    Args:
        effects: The differences, of the same subjects each.
        metric: Metric of the scores, whose differences are fractions.
    """
    scale = 1 if metric == "mrr" else 100
    subjects = effects[0].subjects
    columns = min(_PER_ROW, len(effects))
    rows = math.ceil(len(effects) / columns)
    height = rows * (_ROW_INCH * (len(subjects) + 2) + 0.45) + 0.75
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axis in axes[len(effects) :]:
            axis.remove()
        for axis, each in zip(axes, effects, strict=False):
            _draw(axis, each, scale)
            axis.tick_params(labelbottom=True)
        places = np.arange(len(subjects) + 2)
        axes[0].set_yticks(places, [*subjects, "over subjects", "a new subject"])
        axes[0].set_ylim(len(places) - 0.4, -0.6)
        unit = metric_title(metric) if scale == 1 else f"points of {metric_title(metric)}"
        figure.supxlabel(f"difference, {unit}; intervals of 95 %")
    return figure


def _draw(axis: Axes, found: SubjectEffects, scale: int) -> None:
    n, over = len(found.subjects), found.over
    axis.axvline(0, color=GREY, linewidth=0.8)
    places = np.arange(n)
    axis.hlines(
        places,
        scale * (found.effects - _NORMAL * found.errors),
        scale * (found.effects + _NORMAL * found.errors),
        color=INK,
        linewidth=0.8,
    )
    sizes = _TALLEST**2 * over.weights
    axis.scatter(scale * found.effects, places, s=sizes, marker="s", color=COLOURS[0], zorder=3)
    low, mean, high = (scale * value for value in (over.low, over.mean, over.high))
    corners = [(low, n), (mean, n - 0.3), (high, n), (mean, n + 0.3)]
    axis.add_patch(Polygon(corners, color=COLOURS[1], zorder=3))
    if not math.isnan(over.predicted_low):
        ends = scale * over.predicted_low, scale * over.predicted_high
        axis.hlines(n + 1, *ends, color=COLOURS[1], linewidth=1.6)
    axis.axhline(n - 0.5, color=GREY, linewidth=0.5)
    axis.tick_params(axis="y", length=0)
    axis.set_title(textwrap.fill(found.name, 44))
