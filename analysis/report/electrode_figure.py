"""A figure of what single electrodes reach: by shaft and depth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.report.figures import COLOURS, INK, STYLE, WIDTH
from analysis.report.time_figures import ABOVE_CHANCE, scale_and_title
from ssense.signal.contacts import numbers_of, shafts_of

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

    Those whose names are no shaft and number stand in a row of their own.

    Args:
        names: Names of the K electrodes.
        values: Mean scores `[K]`, as fractions.
        whole: Whether each met every seed.
        best: Whether each is the best of its family.
        chance: What a random ranking reaches, as a fraction.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    rows, columns, labels = _places(names)
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
        axis.set_xticks(range(1, max(columns) + 1))
        axis.set_xlim(0.4, max(columns) + 0.6)
        axis.set_xlabel("number of the contact")
        axis.set_ylabel("shaft")
        bar = figure.colorbar(ScalarMappable(norm, ABOVE_CHANCE), ax=axis, extend="min")
        bar.set_label(f"validation {title}, from chance on")
        bar.outline.set_edgecolor(INK)
        _legend(figure)
    return figure


def _places(names: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    """Row and column of each electrode, and the names of the rows."""
    shafts, numbers = shafts_of(names), numbers_of(names)
    row_of = {at: row for row, group in enumerate(shafts.values()) for at in group}
    others = [at for at in range(len(names)) if at not in row_of]
    rows = [row_of.get(at, len(shafts)) for at in range(len(names))]
    columns = [
        numbers[name] if at in row_of else others.index(at) + 1 for at, name in enumerate(names)
    ]
    return rows, columns, [*shafts, *(["others"] if others else [])]


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], marker="o", ms=7, lw=0, mfc="none", mec=INK, mew=_WHOLE),
        Line2D([], [], marker="o", ms=7, lw=0, mfc="none", mec=INK, mew=_FEWER),
        Line2D([], [], marker="x", ms=6, lw=0, mec=COLOURS[1], mew=1.6),
    ]
    names = ["met every seed", "stopped by the race", "the best, which is tested"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
