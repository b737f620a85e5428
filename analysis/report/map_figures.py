"""Figures of maps: electrodes on a glass brain or by shaft, windows, bands, and both together."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.mapping.effects import EffectMap
from analysis.mapping.parts import ALONE, band_name, window_ends_s
from analysis.mapping.parts import Axes as InputAxes
from analysis.report.figures import COLOURS, GREY, INK, STYLE, WIDTH
from ssense.retrieval import metric_title
from ssense.signal.contacts import contacts_of, read_names

# From Okabe and Ito's orange over a grey that shows on white and on black to their blue.
DIVERGING = LinearSegmentedColormap.from_list("effects", [COLOURS[1], "#b4b4b4", COLOURS[0]])
_COLUMNS, _LEAST_COLUMNS = 32, 6
"""Contacts that stand in one row at most, and those that an axis has room for at least."""
_NAME_CHARACTERS = 36
"""Characters of a line of a name beside an axis, at most."""
_MANY_CHANNELS, _LEAST_TO_INTERPOLATE = 128, 4
_LEAST_HEIGHT = 2.2  # inches, which the name of a colour bar takes
_INSTANT_S = 0.1  # drawn width of a window that is the only frame
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


def brain_figure(found: EffectMap, mm: np.ndarray) -> Figure:
    """Draw electrodes on a glass brain in three views; the larger the effect, the larger the dot.

    Args:
        found: Effects of the electrodes.
        mm: Coordinates `[K, 3]`, mm in an MNI space; NaN where they are not known.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1))
        _draw_brain(figure, "ortho", (0, 0, 0.84, 0.92), found, mm)
        bar = figure.add_axes((0.87, 0.15, 0.02, 0.7))
        _colour_bar(figure, bar, found)
        _outline_legend(figure)
    return figure


def brain_views(found: EffectMap, mm: np.ndarray) -> list[Figure]:
    """Draw the views of `brain_figure` one by one, for a page that sets them by its width.

    Args:
        found: Effects of the electrodes.
        mm: Coordinates `[K, 3]`, mm in an MNI space; NaN where they are not known.

    Returns:
        The three views; by shaft, the electrodes that lie nowhere that is known; and the colours,
        with what an outline means.
    """
    figures = []
    with mpl.rc_context(STYLE):
        for side, (width, height) in _VIEW_SIZES.items():
            figures.append(figure := Figure(figsize=(width, height + _TITLE_HEIGHT)))
            within = (0, 0, 1, height / (height + _TITLE_HEIGHT))
            _draw_brain(figure, side, within, found, mm)
        if lacking := np.flatnonzero(~np.isfinite(mm).all(axis=1)).tolist():
            figures.append(shaft_figure(found, lacking))
        figures.append(scale := Figure(figsize=(4.4, 0.9)))
        bar = scale.add_axes((0.1, 0.5, 0.8, 0.14))
        _colour_bar(scale, bar, found, horizontal=True)
        _outline_legend(scale)
    return figures


def _draw_brain(
    figure: Figure,
    views: str,
    within: tuple[float, float, float, float],
    found: EffectMap,
    mm: np.ndarray,
) -> None:
    from nilearn import plotting  # takes seconds

    display = plotting.plot_glass_brain(
        None, display_mode=views, figure=figure, axes=within, annotate=False
    )
    for side, view in display.axes.items():
        _restyle(view.ax, side)
        larger = 2.0 if len(views) == 1 else 1.0
        _draw_contacts(view.ax, mm[:, _DRAWN_AXES[side]], found, larger)


_VIEWS = {"x": "from the side", "y": "from the front", "z": "from above"}
_VIEW_SIZES = {"x": (3.6, 3.0), "y": (2.85, 3.05), "z": (2.8, 3.55)}
"""Width and height of a view that is a figure of its own, inches, in the scale of the others."""
_TITLE_HEIGHT = 0.25  # inches
_DRAWN_AXES = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}
"""The coordinates that a view is drawn by, to the right and up."""


def _draw_contacts(axis: Axes, places: np.ndarray, found: EffectMap, larger: float) -> None:
    """Draw electrodes at `[K, 2]` where these are known, those with the largest effects on top."""
    norm, means = _norm(found), scale_of(found) * found.means
    sizes = larger * (8 + 60 * np.abs(means) / norm.vmax)
    for at in np.argsort(np.abs(means), kind="stable").tolist():
        if np.isfinite(places[at]).all():
            x, y = places[at]
            axis.scatter(
                x,
                y,
                color=DIVERGING(norm(means[at])),
                s=sizes[at],
                edgecolors=INK,
                linewidths=_FOUND if found.found[at] else _OTHER,
                zorder=3,
                gid=mark(at),
            )


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


def shaft_figure(found: EffectMap, drawn: Sequence[int] | None = None) -> Figure:
    """Draw electrodes by shaft and depth: a row for each shaft, contact 1 on the left.

    Shafts and grids of many contacts go on in further rows. Electrodes whose names are no shaft
    and number stand in rows of their own.

    Args:
        found: Effects of the electrodes.
        drawn: Places of those that are drawn; all of them if not given.
    """
    drawn = range(len(found.parts)) if drawn is None else drawn
    rows, columns, names = on_shafts([found.parts[at].name for at in drawn])
    norm, means = _norm(found), scale_of(found) * found.means
    with mpl.rc_context(STYLE):
        height = max(_LEAST_HEIGHT, 1.2 + 0.24 * len(names))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axis = figure.subplots()
        for at, row, column in zip(drawn, rows, columns, strict=True):
            axis.scatter(
                column,
                row,
                color=DIVERGING(norm(means[at])),
                s=90,
                edgecolors=INK,
                linewidths=_FOUND if found.found[at] else _OTHER,
                gid=mark(at),
            )
        axis.set_yticks(range(len(names)), list(map(_wrapped, names)))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=20, integer=True))
        axis.set_xlim(min(*columns, 1) - 0.6, max(*columns, _LEAST_COLUMNS) + 0.6)
        axis.set_xlabel("number of the contact")
        axis.set_ylabel("shaft")
        _colour_bar(figure, None, found, axis)
        _outline_legend(figure)
    return figure


def on_shafts(names: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    """Row and column of each electrode, and the names of the rows."""
    of = contacts_of(names)
    firsts = [of[name][0] for name in names]
    contacts = read_names(firsts).contacts
    others = [name for name in firsts if name not in contacts]
    numbered = [
        (contacts[name].shaft, contacts[name].number)
        if name in contacts
        else (None, others.index(name) + 1)
        for name in firsts
    ]
    blocks = [(shaft, max(0, number - 1) // _COLUMNS) for shaft, number in numbered]
    shafts = [*dict.fromkeys(shaft for shaft, _ in numbered if shaft), None]
    rows = sorted(set(blocks), key=lambda each: (shafts.index(each[0]), each[1]))
    columns = [
        number - _COLUMNS * block for (_, number), (_, block) in zip(numbered, blocks, strict=True)
    ]
    titles = [(shaft or "others") + f" + {_COLUMNS * block}" * (block > 0) for shaft, block in rows]
    return [rows.index(block) for block in blocks], columns, titles


def interval_figure(found: EffectMap) -> Figure:
    """Draw the effect of each part by name, with its 95 % interval: shafts, regions or bands."""
    with mpl.rc_context(STYLE):
        n = len(found.parts)
        lines = sum(1 + _wrapped(part.name).count("\n") for part in found.parts)
        figure = Figure(figsize=(WIDTH, 1.1 + 0.24 * lines), layout="constrained")
        axis = figure.subplots()
        places = np.arange(n)
        _draw_effects(axis, places, found, horizontal=True)
        axis.set_yticks(places, [_wrapped(part.name) for part in found.parts])
        if found.what != "frequency band":  # whose lowest is at the bottom
            axis.invert_yaxis()
        axis.set_xlabel(effect_title(found))
        _legend(figure, found)
    return figure


def time_figure(found: EffectMap, axes: InputAxes, durations: Durations | None) -> Figure:
    """Draw the effect of each window of time, above how many sentences are still being spoken.

    Args:
        found: Effects of the windows.
        axes: The axes of the spectrograms or responses.
        durations: When sentences end; None of images.
    """
    ends = np.array([_drawn_ends_s(axes, part.frames) for part in found.parts if part.frames])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        rows = [3] if durations is None else [3, 1]
        panels = figure.subplots(len(rows), sharex=True, height_ratios=rows, squeeze=False).ravel()
        axis = panels[0]
        scale = scale_of(found)
        spans = {"linewidth": 6, "alpha": 0.3}
        axis.hlines(scale * found.means, ends[:, 0], ends[:, 1], color=COLOURS[0], **spans)
        _draw_effects(axis, ends.mean(axis=1), found, horizontal=False)
        for panel in panels:
            panel.axvline(0, color=GREY, linewidth=0.8)
            panel.set_xlim(ends.min(), ends.max())
        axis.set_ylabel(_on_two_lines(found))
        if durations is not None:
            _draw_spoken(panels[1], durations)
        stimulus = "image" if durations is None else "sentence"
        panels[-1].set_xlabel(f"time after the {stimulus}'s onset (s)")
        _legend(figure, found)
    return figure


def _draw_spoken(axis: Axes, durations: Durations) -> None:
    at = np.linspace(*axis.get_xlim(), 300)
    axis.fill_between(at, 100 * durations.spoken(at), color=GREY, alpha=0.4, linewidth=0)
    axis.set_ylim(0, 100)
    axis.set_ylabel("spoken (%)")


def head_figure(found: EffectMap, xy: np.ndarray) -> Figure:
    """Draw channels on a head seen from above, nose up, with effects interpolated between them.

    Args:
        found: Effects of the channels.
        xy: Places `[K, 2]` on a head whose outline has radius 1; NaN where they are not known.
    """
    norm, means = _norm(found), scale_of(found) * found.means
    known = np.isfinite(xy).all(axis=1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6))
        axis = figure.add_axes((0.2, 0.02, 0.5, 0.88))
        _draw_head(axis, means[known], xy[known], float(norm.vmax or 1.0))
        for at in np.flatnonzero(known).tolist():
            axis.scatter(
                xy[at, 0],
                xy[at, 1],
                color=DIVERGING(norm(means[at])),
                s=28 if known.sum() < _MANY_CHANNELS else 14,
                edgecolors=INK,
                linewidths=_FOUND if found.found[at] else _OTHER,
                zorder=20,
                gid=mark(at),
            )
        bar = figure.add_axes((0.78, 0.15, 0.02, 0.65))
        _colour_bar(figure, bar, found)
        _outline_legend(figure)
    return figure


def _draw_head(axis: Axes, means: np.ndarray, xy: np.ndarray, largest: float) -> None:
    """Draw a head's outline, and the means between the channels where these are enough."""
    if len(means) >= _LEAST_TO_INTERPOLATE:
        from mne.viz import plot_topomap  # takes a second

        plot_topomap(
            means,
            xy,
            axes=axis,
            sphere=(0.0, 0.0, 0.0, 1.0),
            sensors=False,
            contours=0,
            extrapolate="local",
            image_interp="linear",
            cmap=DIVERGING,
            vlim=(-largest, largest),
            show=False,
        )
    else:
        axis.add_patch(mpl.patches.Circle((0, 0), 1, fill=False))
        axis.plot([-0.2, 0, 0.2], [0.98, 1.15, 0.98])
        axis.set_aspect("equal")
        axis.set_axis_off()
    for line in axis.lines:
        line.set_color(GREY)
    for patch in axis.patches:
        patch.set_edgecolor(GREY)


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
    edges = [_drawn_ends_s(axes, window)[0] for window in windows]
    edges.append(_drawn_ends_s(axes, windows[-1])[1])
    with mpl.rc_context(STYLE):
        height = max(_LEAST_HEIGHT, 1.2 + 0.3 * len(bands))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axis = figure.subplots()
        for (row, column), place in np.ndenumerate(order):
            left, right = edges[column], edges[column + 1]
            colour, is_found = DIVERGING(norm(values[row, column])), found.found[place]
            # An edge of the face's own colour: without, seams show between cells.
            axis.add_patch(
                mpl.patches.Rectangle(
                    (left, row - 0.5),
                    right - left,
                    1,
                    facecolor=colour,
                    edgecolor=INK if is_found else colour,
                    linewidth=_FOUND if is_found else _OTHER,
                    zorder=2 if is_found else 1,
                    gid=mark(place),
                )
            )
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(-0.5, len(bands) - 0.5)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(bands)), [band_name(axes, band) for band in bands])
        axis.set_xlabel("time after the sentence's onset (s)")
        axis.set_ylabel("frequency band")
        _colour_bar(figure, None, found, axis)
        _outline_legend(figure)
    return figure


def _drawn_ends_s(axes: InputAxes, frames: tuple[int, int]) -> tuple[float, float]:
    """Where a window is drawn from and to, seconds: as it is, if it is no instant."""
    first, last = window_ends_s(axes, frames)
    aside = 0.0 if last > first else _INSTANT_S / 2
    return first - aside, last + aside


def _draw_effects(axis: Axes, at: np.ndarray, found: EffectMap, *, horizontal: bool) -> None:
    """Draw means with intervals at some places; what is shown to carry the score is filled."""
    scale = scale_of(found)
    parts = zip(at, found.tests, found.found, strict=True)
    for number, (place, test, is_found) in enumerate(parts):
        mean, ends = scale * test.mean, [scale * end for end in (test.low, test.high)]
        xs, ys = ([mean], [place]) if horizontal else ([place], [mean])
        if all(map(math.isfinite, ends)):
            line = (ends, [place] * 2) if horizontal else ([place] * 2, ends)
            axis.plot(*line, color=COLOURS[0], linewidth=1)
        face = COLOURS[0] if is_found else "none"
        axis.plot(xs, ys, "o", color=COLOURS[0], mfc=face, markersize=4, gid=mark(number))
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
    beside: Axes | None = None,
    *,
    horizontal: bool = False,
) -> None:
    orientation = "horizontal" if horizontal else "vertical"
    mappable = ScalarMappable(_norm(found), DIVERGING)
    bar = figure.colorbar(mappable, cax=own, ax=beside, orientation=orientation)
    bar.set_label(effect_title(found) if horizontal else _on_two_lines(found))
    bar.outline.set_edgecolor(INK)


def _wrapped(name: str) -> str:
    """A name on lines that fit beside an axis, three at most."""
    return "\n".join(textwrap.wrap(name, _NAME_CHARACTERS, max_lines=3, placeholder=" …")) or name


def mark(at: int) -> str:
    """The id, in its figure, of what is drawn for a part of a map, by the part's place in it."""
    return f"mark-{at}"
