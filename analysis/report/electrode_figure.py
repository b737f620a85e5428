"""A figure of what electrodes reach by themselves: single ones by shaft, groups by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.report.figures import COLOURS, GREY, INK, STYLE, WIDTH, scale_and_title
from analysis.report.map_figures import on_shafts
from analysis.report.time_figures import ABOVE_CHANCE

_WHOLE, _FEWER = 1.4, 0.3
"""Widths of the outlines of electrodes that met every seed, and of others, in points."""


def electrode_figure(
    names: Sequence[str],
    values: np.ndarray,
    whole: Sequence[bool],
    best: Sequence[bool],
    chance: float,
    metric: str,
) -> Figure:
    """Draw electrodes by shaft and depth: a row for each shaft, contact 1 on the left.

    Shafts of many contacts go on in further rows. Those whose names are no shaft and number stand
    in rows of their own.

    Args:
        names: Names of the K electrodes.
        values: Mean scores `[K]`, as fractions.
        whole: Whether each met every seed.
        best: Whether each is the best of its family.
        chance: What a random ranking reaches, as a fraction.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    rows, columns, labels = on_shafts(names)
    low, high = scale * chance, scale * float(values.max())
    norm = Normalize(low, max(high, 1.01 * low))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.24 * len(labels)), layout="constrained")
        axis = figure.subplots()
        axis.scatter(
            columns,
            rows,
            c=ABOVE_CHANCE(norm(scale * values)),
            s=90,
            edgecolors=INK,
            linewidths=np.where(whole, _WHOLE, _FEWER).tolist(),
        )
        at = np.flatnonzero(best)
        axis.scatter(
            np.array(columns)[at],
            np.array(rows)[at],
            marker="x",
            s=40,
            c=COLOURS[1],
            linewidths=1.6,
        )
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True))
        axis.set_xlim(min(*columns, 1) - 0.6, max(*columns, 1) + 0.6)
        axis.set_xlabel("number of the contact")
        axis.set_ylabel("shaft")
        bar = figure.colorbar(ScalarMappable(norm, ABOVE_CHANCE), ax=axis, extend="min")
        bar.set_label(f"validation {title}, from chance on")
        bar.outline.set_edgecolor(INK)
        _legend(figure)
    return figure


def group_figure(
    groups: Mapping[str, Sequence[tuple[str, Sequence[float], bool]]],
    most: int,
    chance: float,
    metric: str,
) -> Figure:
    """Draw groups of electrodes by name: a panel for each family, a row for each group.

    Args:
        groups: Name, scores as fractions by seed, and whether it is the best, by family.
        most: Number of seeds of those that met all.
        chance: What a random ranking reaches, as a fraction.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    sizes = [len(rows) for rows in groups.values()]
    with mpl.rc_context(STYLE):
        height = 1.1 + 0.2 * sum(sizes) + 0.4 * len(sizes)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(len(sizes), sharex=True, height_ratios=sizes, squeeze=False)
        for axis, (family, rows) in zip(panels.ravel(), groups.items(), strict=True):
            for row, (_, scores, is_best) in enumerate(rows):
                mean, edge = scale * np.mean(scores), _WHOLE if len(scores) == most else _FEWER
                sd = scale * np.std(scores, ddof=1) if len(scores) > 1 else 0.0
                axis.hlines(row, mean - sd, mean + sd, color=COLOURS[0], linewidth=1)
                axis.plot(mean, row, "o", mfc=COLOURS[0], mec=INK, mew=edge, ms=7)
                if is_best:
                    axis.plot(mean, row, "x", color=COLOURS[1], ms=6, mew=1.6)
            axis.axvline(scale * chance, color=GREY, linewidth=0.8)
            axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
            axis.set_ylim(len(rows) - 0.5, -0.5)
            axis.set_title(family)
        panels[-1, 0].set_xlabel(f"validation {title}")
        _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], marker="o", ms=7, lw=0, mfc="none", mec=INK, mew=_WHOLE),
        Line2D([], [], marker="o", ms=7, lw=0, mfc="none", mec=INK, mew=_FEWER),
        Line2D([], [], marker="x", ms=6, lw=0, mec=COLOURS[1], mew=1.6),
    ]
    names = ["met every seed", "stopped by the race", "the best, which is tested"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
