"""Figures of maps: electrodes on a glass brain or by shaft, windows, bands, and both together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.mapping.effects import EffectMap
from analysis.mapping.parts import ALONE, Part, band_name, window_ends_s
from analysis.mapping.parts import Axes as InputAxes
from analysis.report.figures import COLOURS, GREY, INK, STYLE, WIDTH
from ssense.retrieval import metric_title
from ssense.signal.contacts import read_names

# From Okabe and Ito's orange over a grey that shows on white and on black to their blue.
DIVERGING = LinearSegmentedColormap.from_list("effects", [COLOURS[1], "#b4b4b4", COLOURS[0]])
_FOUND, _OTHER = 1.6, 0.3
"""Widths of the outlines of parts that are shown to carry the score, and of others, in points."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Durations:
    """Where sentences end.

    Attributes:
        ends_s: End of each sentence, `[N]` seconds after its onset.
    """

    ends_s: np.ndarray

    def spoken(self, at_s: np.ndarray) -> np.ndarray:
        """The share of sentences that are still being spoken at some times after their onset."""
        lasting = (self.ends_s[:, None] > at_s).mean(axis=0)
        return np.where(at_s < 0, 0.0, lasting)


def effect_title(found: EffectMap) -> str:
    """What an axis of effects is called, with its unit."""
    unit = "" if found.metric == "mrr" else " (points)"
    title = metric_title(found.metric)
    if found.what in ALONE:
        return f"test {title} above chance{unit}"
    return f"test {title} lost{unit}"


def _on_two_lines(found: EffectMap) -> str:
    return effect_title(found).replace(" lost", "\nlost").replace(" above", "\nabove")


def scale_of(found: EffectMap) -> int:
    """The factor from fractions to what is drawn."""
    return 1 if found.metric == "mrr" else 100


def brain_figure(found: EffectMap, places: np.ndarray) -> Figure:
    """Draw electrodes on a glass brain in three views; the larger the effect, the larger the dot.

    Args:
        found: Effects of the electrodes.
        places: Coordinates `[K, 3]`, mm in an MNI space; NaN where they are not known.
    """
    from nilearn import plotting  # takes seconds

    known = np.isfinite(places).all(axis=1)
    means, norm = scale_of(found) * found.means[known], _norm(found)
    sizes = 8 + 60 * np.abs(means) / norm.vmax if norm.vmax else np.full(len(means), 8.0)
    order = np.argsort(np.abs(means))  # the largest on top
    outlines = np.where(found.found[known], _FOUND, _OTHER)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1))
        display = plotting.plot_glass_brain(
            None, display_mode="ortho", figure=figure, axes=(0, 0, 0.86, 0.92), annotate=False
        )
        display.add_markers(
            places[known][order],
            marker_color=[tuple(each) for each in DIVERGING(norm(means[order]))],
            marker_size=sizes[order],
            edgecolors=INK,
            linewidths=outlines[order],
            alpha=1.0,
        )
        for side, view in display.axes.items():
            _restyle(view.ax, side)
        bar = figure.add_axes((0.9, 0.15, 0.02, 0.7))
        _colour_bar(figure, bar, found, norm)
        _outline_legend(figure)
    return figure


_VIEWS = {"x": "from the side", "y": "from the front", "z": "from above"}


def _restyle(axis: Axes, side: str) -> None:
    """Draw a view's outlines in a grey that shows on white and on black, and name the view."""
    for patch in axis.patches:
        patch.set_edgecolor(GREY)
        patch.set_alpha(0.6)
    axis.set_title(_VIEWS[side], color=INK)
    if side in "yz":
        low, high = axis.get_xlim()
        bottom = axis.get_ylim()[0]
        for at, word, edge in ((low, "L", "left"), (high, "R", "right")):
            axis.text(at, bottom, word, color=INK, ha=edge, va="bottom")


def shaft_figure(found: EffectMap) -> Figure:
    """Draw electrodes by shaft and depth: a row for each shaft, contact 1 on the left.

    Electrodes whose names are no shaft and number stand in a row of their own.

    Args:
        found: Effects of the electrodes.
    """
    rows, columns, names = _on_shafts([part.name for part in found.parts])
    norm, means = _norm(found), scale_of(found) * found.means
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.24 * len(names)), layout="constrained")
        axis = figure.subplots()
        axis.scatter(
            columns,
            rows,
            c=DIVERGING(norm(means)),
            s=90,
            edgecolors=INK,
            linewidths=np.where(found.found, _FOUND, _OTHER).tolist(),
        )
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xticks(range(1, max(columns) + 1))
        axis.set_xlim(0.4, max(columns) + 0.6)
        axis.set_xlabel("number of the contact")
        axis.set_ylabel("shaft")
        _colour_bar(figure, None, found, norm, axis)
        _outline_legend(figure)
    return figure


def _on_shafts(names: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    """Row and column of each electrode, and the names of the rows."""
    pairs = read_names(names).pairs
    firsts = [name.partition("-")[0] if name in pairs else name for name in names]
    contacts = read_names(firsts).contacts
    shafts = list(dict.fromkeys(c.shaft for name in firsts if (c := contacts.get(name))))
    others = [name for name in firsts if name not in contacts]
    rows = [
        shafts.index(contacts[name].shaft) if name in contacts else len(shafts) for name in firsts
    ]
    columns = [
        contacts[name].number if name in contacts else others.index(name) + 1 for name in firsts
    ]
    return rows, columns, [*shafts, *(["others"] if others else [])]


def interval_figure(found: EffectMap) -> Figure:
    """Draw the effect of each part by name, with its 95 % interval: shafts, regions or bands."""
    with mpl.rc_context(STYLE):
        n = len(found.parts)
        figure = Figure(figsize=(WIDTH, 1.1 + 0.24 * n), layout="constrained")
        axis = figure.subplots()
        places = np.arange(n)
        _draw_effects(axis, places, found, horizontal=True)
        axis.set_yticks(places, [part.name for part in found.parts])
        if found.what != "frequency band":  # whose lowest is at the bottom
            axis.invert_yaxis()
        axis.set_xlabel(effect_title(found))
        _legend(figure, found)
    return figure


def time_figure(found: EffectMap, axes: InputAxes, durations: Durations) -> Figure:
    """Draw the effect of each window of time, above how many sentences are still being spoken.

    Args:
        found: Effects of the windows.
        axes: The axes of the spectrograms.
        durations: When sentences end.
    """
    ends = np.array([window_ends_s(axes, part.frames) for part in found.parts if part.frames])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        scale = scale_of(found)
        axis.hlines(scale * found.means, ends[:, 0], ends[:, 1], color=COLOURS[0], linewidth=1.8)
        _draw_effects(axis, ends.mean(axis=1), found, horizontal=False)
        for panel in (axis, below):
            panel.axvline(0, color=GREY, linewidth=0.8)
        axis.set_ylabel(_on_two_lines(found))
        at = np.linspace(ends.min(), ends.max(), 300)
        below.fill_between(at, 100 * durations.spoken(at), color=GREY, alpha=0.4, linewidth=0)
        below.set_ylim(0, 100)
        below.set_xlim(ends.min(), ends.max())
        below.set_ylabel("spoken (%)")
        below.set_xlabel("time after the sentence's onset (s)")
        _legend(figure, found)
    return figure


def time_frequency_figure(found: EffectMap, axes: InputAxes) -> Figure:
    """Draw the effect of each window in each band as colours; those that are shown are outlined.

    Args:
        found: Effects of the windows in bands.
        axes: The axes of the spectrograms.
    """
    bands = sorted({part.rows for part in found.parts if part.rows})
    windows = sorted({part.frames for part in found.parts if part.frames})
    at = {(part.rows, part.frames): place for place, part in enumerate(found.parts)}
    order = np.array([[at[band, window] for window in windows] for band in bands])
    values, norm = scale_of(found) * found.means[order], _norm(found)
    edges = [window_ends_s(axes, window)[0] for window in windows]
    edges.append(window_ends_s(axes, windows[-1])[1])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(bands)), layout="constrained")
        axis = figure.subplots()
        rows = np.arange(len(bands) + 1) - 0.5
        # Edges of the faces' own colours: without, seams show between them.
        axis.pcolormesh(
            edges, rows, values, cmap=DIVERGING, norm=norm, edgecolors="face", linewidth=0.3
        )
        for row, column in np.argwhere(found.found[order]):
            left, right = edges[column], edges[column + 1]
            axis.add_patch(
                mpl.patches.Rectangle(
                    (left, row - 0.5), right - left, 1, fill=False, edgecolor=INK, linewidth=_FOUND
                )
            )
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(bands)), [band_name(axes, band) for band in bands])
        axis.set_xlabel("time after the sentence's onset (s)")
        axis.set_ylabel("frequency band")
        _colour_bar(figure, None, found, norm, axis)
        _outline_legend(figure)
    return figure


def _draw_effects(axis: Axes, at: np.ndarray, found: EffectMap, *, horizontal: bool) -> None:
    """Draw means with intervals at some places; what is shown to carry the score is filled."""
    scale = scale_of(found)
    for place, test, is_found in zip(at, found.tests, found.found, strict=True):
        mean, ends = scale * test.mean, [scale * end for end in (test.low, test.high)]
        xs, ys = ([mean], [place]) if horizontal else ([place], [mean])
        if all(map(math.isfinite, ends)):
            line = (ends, [place] * 2) if horizontal else ([place] * 2, ends)
            axis.plot(*line, color=COLOURS[0], linewidth=1)
        face = COLOURS[0] if is_found else "none"
        axis.plot(xs, ys, "o", color=COLOURS[0], markerfacecolor=face, markersize=4)
    draw = axis.axvline if horizontal else axis.axhline
    draw(0, color=GREY, linewidth=0.8)
    if math.isfinite(found.threshold):
        draw(scale * found.threshold, color=COLOURS[1], linestyle="--", linewidth=1)


def _legend(figure: Figure, found: EffectMap) -> None:
    shown = Line2D([], [], color=COLOURS[0], marker="o", markersize=4, linewidth=1)
    other = Line2D([], [], color=COLOURS[0], marker="o", mfc="none", markersize=4, linewidth=1)
    handles, names = [shown, other], ["shown to carry the score, 95 % interval", "not shown"]
    if math.isfinite(found.threshold):
        handles.append(Line2D([], [], color=COLOURS[1], linestyle="--", linewidth=1))
        names.append("threshold by permuted pairs")
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)


def _outline_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], marker="o", ms=7, lw=0, mfc="none", mec=INK, mew=width)
        for width in (_FOUND, _OTHER)
    ]
    names = ["shown to carry the score (bold outline)", "not shown"]
    if figure.get_layout_engine():
        figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    else:
        figure.legend(handles, names, loc="upper center", ncols=2, frameon=False)


def _norm(found: EffectMap) -> TwoSlopeNorm:
    largest = float(scale_of(found) * np.abs(found.means).max()) or 1.0
    return TwoSlopeNorm(0, -largest, largest)


def _colour_bar(
    figure: Figure,
    own: Axes | None,
    found: EffectMap,
    norm: TwoSlopeNorm,
    beside: Axes | None = None,
) -> None:
    mappable = ScalarMappable(norm, DIVERGING)
    bar = figure.colorbar(mappable, cax=own, ax=beside)
    bar.set_label(_on_two_lines(found))
    bar.outline.set_edgecolor(INK)


def places_of(parts: Sequence[Part], names: Sequence[str], places: np.ndarray) -> np.ndarray:
    """Coordinates `[K, 3]` of the electrodes that parts are, by name."""
    numbers = [list(names).index(part.name) for part in parts]
    return places[numbers]
