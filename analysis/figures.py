"""Figures of a test evaluation, at paper width, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, repeat

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssense.retrieval import metric_title

# Okabe and Ito's palette, without yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#767676"  # dark enough on white, light enough on black

STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "ssense",
}

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Family, then metric, to one value per seed, as fractions."""


def family_figure(scores: Scores, chance: Mapping[str, float], metrics: Sequence[str]) -> Figure:
    """Draw each metric's scores: a line per seed through the families, their mean and sd, chance.

    Args:
        scores: by family and metric, the seeds in the same order everywhere.
        chance: by metric.
        metrics: one panel each.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9))
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            by_family = {family: np.asarray(values[metric]) for family, values in scores.items()}
            _seed_panel(axis, by_family, chance[metric], metric)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def bar_figure(scores: Mapping[str, Sequence[float]], metric: str) -> Figure:
    """Draw one metric as a bar each: the mean over seeds, its sd, and the seeds as points.

    Args:
        scores: by name, one value per seed, as fractions.
        metric: what they are.
    """
    is_share = metric != "mrr"
    scale = 100 if is_share else 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.6 + 0.28 * len(scores)))
        axis = figure.subplots()
        for place, (values, colour) in enumerate(zip(scores.values(), _shades(), strict=False)):
            row = scale * np.asarray(values)
            spread = row.std(ddof=1) if len(row) > 1 else 0.0
            axis.barh(place, row.mean(), xerr=spread, color=colour, height=0.7, capsize=2)
            axis.plot(row, np.full(len(row), place), ".", color="black", markersize=2, alpha=0.6)
        axis.set_yticks(range(len(scores)), list(scores))
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.set_xlabel(f"test {metric_title(metric)}" + (" (%)" if is_share else ""))
    return figure


def _shades() -> Iterator[str]:
    yield COLOURS[0]  # what the others are compared with
    yield from repeat(COLOURS[5])


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure as PNG or SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _seed_panel(axis: Axes, scores: Mapping[str, np.ndarray], chance: float, metric: str) -> None:
    is_share = metric != "mrr"
    scale = 100 if is_share else 1
    places = np.arange(len(scores))
    values = scale * np.stack(list(scores.values()))
    lines = axis.plot(
        places, values, color=GREY, alpha=0.45, linewidth=0.7, marker=".", markersize=3
    )
    lines[0].set_label("one seed")
    for place, row, colour in zip(places, values, cycle(COLOURS), strict=False):
        spread = row.std(ddof=1) if len(row) > 1 else 0.0
        label = "mean ± sd over seeds" if place == 0 else None
        axis.errorbar(place, row.mean(), spread, fmt="o", capsize=3, color=colour, label=label)
    axis.axhline(scale * chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    axis.set_xticks(places, [textwrap.fill(family, 12) for family in scores])
    axis.set_xlim(-0.4, len(scores) - 0.6)
    axis.set_ylim(bottom=0)
    axis.set_ylabel(f"test {metric_title(metric)}" + (" (%)" if is_share else ""))
