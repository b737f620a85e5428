"""Figures of windows: the course of a score, and what is learned in one tested at the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.measure.inference import TTest
from analysis.report.figures import COLOURS, GREY, INK, STYLE, WIDTH, scale_and_title

ABOVE_CHANCE = LinearSegmentedColormap.from_list("above chance", ["#b4b4b4", COLOURS[0]])
"""From a grey that shows on white and on black, at chance, to Okabe and Ito's blue."""
ONSET = "time after the sentence's onset (s)"
_FOUND = 1.6  # width of the outline of what is shown, in points


def time_course_figure(
    windows: Sequence[tuple[float, float]],
    means: Sequence[TTest],
    scores: np.ndarray,
    found: Sequence[bool],
    chance: float,
    ends_s: np.ndarray | None,
    metric: str,
) -> Figure:
    """Draw the score of each window, above how many sentences are still being spoken.

    Args:
        windows: Where each of the W windows begins and ends, seconds after the onset.
        means: Its mean over the seeds, with the 95 % interval, as a fraction.
        scores: Scores `[J, W]` of the seeds, as fractions.
        found: Whether each is shown to be above chance.
        chance: What a random ranking reaches, as a fraction.
        ends_s: End of each sentence, `[N]` seconds after its onset; None where it is not known.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    ends = np.array(windows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        middles = ends.mean(axis=1)
        points = np.repeat(middles[None], len(scores), axis=0)
        axis.plot(points.ravel(), scale * scores.ravel(), ".", color=GREY, ms=3, alpha=0.6)
        axis.hlines([scale * t.mean for t in means], *ends.T, color=COLOURS[0], linewidth=1.8)
        for at, test, is_found in zip(middles, means, found, strict=True):
            if math.isfinite(test.high - test.low):
                axis.vlines(at, scale * test.low, scale * test.high, color=COLOURS[0], lw=1)
            face = COLOURS[0] if is_found else "none"
            axis.plot(at, scale * test.mean, "o", color=COLOURS[0], mfc=face, ms=4)
        axis.axhline(scale * chance, color=GREY, linestyle="--", linewidth=1)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(f"test {title}")
        for panel in (axis, below):
            panel.axvline(0, color=GREY, linewidth=0.8)
        at_s = np.linspace(ends.min(), ends.max(), 300)
        if ends_s is not None:
            spoken = np.where(at_s < 0, 0.0, (ends_s[:, None] > at_s).mean(axis=0))
            below.fill_between(at_s, 100 * spoken, color=GREY, alpha=0.4, linewidth=0)
        below.set_ylim(0, 100)
        below.set_xlim(ends.min(), ends.max())
        below.set_ylabel("spoken (%)")
        below.set_xlabel(ONSET)
        _course_legend(figure)
    return figure


def generalisation_figure(
    starts_s: Sequence[float],
    window_s: float,
    scores: np.ndarray,
    found: np.ndarray,
    chance: float,
    metric: str,
) -> Figure:
    """Draw the score of what was trained at one window and tested at another, as colours.

    The diagonal, trained and tested at the same window, is marked by a line.

    Args:
        starts_s: Where each of the W windows begins, seconds after the onset.
        window_s: Length of a window, seconds.
        scores: Mean scores `[W, W]`, trained at the row's and tested at the column's window.
        found: Which of them are shown to be above chance, `[W, W]`.
        chance: What a random ranking reaches, as a fraction.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    starts = np.array(starts_s)
    middles, edges = starts + window_s / 2, _edges(starts + window_s / 2)
    norm = Normalize(scale * chance, max(scale * float(scores.max()), scale * chance * 1.01))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.75 * WIDTH, 0.62 * WIDTH), layout="constrained")
        axis = figure.subplots()
        axis.pcolormesh(
            edges,
            edges,
            scale * scores,
            cmap=ABOVE_CHANCE,
            norm=norm,
            edgecolors="face",
            linewidth=0.3,
        )
        for row, column in np.argwhere(found):
            corner = edges[column], edges[row]
            size = edges[column + 1] - edges[column], edges[row + 1] - edges[row]
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=INK, linewidth=_FOUND))
        axis.plot(middles, middles, "--", color=COLOURS[1], linewidth=1)
        for draw in (axis.axvline, axis.axhline):
            draw(0, color=INK, linewidth=0.8)
        axis.set_aspect("equal")
        axis.set_xlabel("tested at: middle of the window,\n" + ONSET)
        axis.set_ylabel("trained at: middle of the window (s)")
        bar = figure.colorbar(ScalarMappable(norm, ABOVE_CHANCE), ax=axis, extend="min")
        bar.set_label(f"test {title}, from chance on")
        bar.outline.set_edgecolor(INK)
        handles = [
            Line2D([], [], color=COLOURS[1], linestyle="--", linewidth=1),
            Line2D([], [], marker="s", ms=7, lw=0, mfc="none", mec=INK, mew=_FOUND),
        ]
        names = ["same window", "shown to be above chance"]
        figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _edges(middles: np.ndarray) -> np.ndarray:
    """Edges of cells around their middles, halfway to the next; windows may overlap."""
    halves = np.diff(middles) / 2
    inner = middles[:-1] + halves
    edges: np.ndarray = np.r_[middles[0] - halves[0], inner, middles[-1] + halves[-1]]
    return edges


def _course_legend(figure: Figure) -> None:
    line = partial(Line2D, [], [], color=COLOURS[0], marker="o", markersize=4, linewidth=1)
    handles = [
        line(),
        line(mfc="none"),
        Line2D([], [], color=GREY, marker=".", ms=3, lw=0),
        Line2D([], [], color=GREY, linestyle="--", linewidth=1),
    ]
    names = ["above chance, 95 % interval", "not shown to be", "one seed", "chance"]
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
