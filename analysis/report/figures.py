"""Figures of a test evaluation, at paper width, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
from matplotlib.transforms import ScaledTranslation

from analysis.measure.inference import TTest
from analysis.measure.learning_curve import LearningCurve
from ssense.engine.core.cell import Configuration, Level, describe, is_number
from ssense.engine.core.matrix import Matrix
from ssense.engine.view.matrix_figure import draw_matrix
from ssense.retrieval import RECALL_AT, metric_title

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito's palette, without yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^DvpX"  # one more than colours, so that no two of 42 families look the same
GREY = "#767676"  # dark enough on white, light enough on black
# Words and axes; in a page it stands for the colour of the text around the figure.
INK = "#1b1b1c"

STYLE: dict[RcKeyType, Any] = {
    "font.size": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "ssense",
    "pdf.fonttype": 42,  # whole TrueType fonts: journals take no others, and words stay words
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}

FIGURE_KINDS = ("png", "svg", "pdf")
"""Formats that every figure is written in."""

# What differs from one rendering to the next, or from one version of Matplotlib to the next.
_SILENT = {
    "png": {"Software": None},
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}

WIDTH = 7.0  # inches
MOST_NAMES = 24
"""Names of levels that a response shows: of more those with the best means."""
_RANK_BINS = 20
_MOST_UPRIGHT, _PANEL_CHARACTERS = 5, 46  # names beside each other below half of a figure
_RESPONSE_CHARACTERS = 96  # names beside each other below a figure's whole width
_LEVEL_CHARACTERS, _LEVEL_LINES = 16, 3  # of a name below a response
_LEGEND_CHARACTERS = 100  # of a line of a legend, its handles included
_FURTHEST, _BESIDE = 12.0, 3.0  # points that marks are shifted, and are apart, at most
_DECADES = 100
"""Levels that span more than this ratio stand on a logarithmic axis."""

Values = Sequence[float] | np.ndarray
FamilyScores = Mapping[str, Mapping[str, Values]]
"""Family, then metric, to one value per seed, as fractions."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Validation curve of one cell.

    Attributes:
        scores: Validation metric by epoch, `[epochs]`, as fractions.
        best_epoch: The epoch whose encoder was kept, counted from 1.
    """

    scores: Sequence[float]
    best_epoch: int


@dataclass(frozen=True, kw_only=True)
class TriedConfiguration:
    """One configuration as the search saw it.

    Attributes:
        family: Family of the configuration.
        configuration: Swept fields by dotted name; empty for a family without any.
        scores: Validation metric of the seeds that the configuration met, as fractions; at least
            one.
        complete: Whether the configuration met every seed.
    """

    family: str
    configuration: Configuration
    scores: Sequence[float]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Appearance of a family where several share a panel.

    Attributes:
        colour, marker: Colour and marker of the family's points.
    """

    colour: str
    marker: str

    @classmethod
    def of(cls, place: int) -> Mark:
        """The marks of a family by its place, the same colour as in panels of its own."""
        colour, marker = (each[place % len(each)] for each in (COLOURS, MARKERS))
        return cls(colour=colour, marker=marker)


def family_figure(
    scores: FamilyScores, chance: Mapping[str, float], metrics: Sequence[str]
) -> Figure:
    """Draw each metric's scores: a line per seed through the families, their mean and sd, chance.

    Args:
        scores: Scores by family and metric, the seeds in the same order everywhere.
        chance: Chance by metric.
        metrics: Metrics to draw, one panel each.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            by_family = {family: np.asarray(values[metric]) for family, values in scores.items()}
            _seed_panel(axis, by_family, chance[metric], metric)
        _legend_above(figure, axes[0])
    return figure


def bar_figure(
    scores: Mapping[str, Values],
    metric: str,
    chance: Mapping[str, Values],
) -> Figure:
    """Draw one metric as a bar each: mean over seeds, sd, the seeds as points, mean chance.

    Args:
        scores: Scores by name, one value per seed, as fractions.
        metric: Metric of the scores.
        chance: Chance by the names that have a mark for it, one value per seed.
    """
    scale, title = scale_and_title(metric)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.85 + 0.28 * len(scores)), layout="constrained")
        axis = figure.subplots()
        for place, (values, colour) in enumerate(zip(scores.values(), _shades(), strict=False)):
            _bar(axis, place, scale * np.asarray(values), colour, names_marks=place == 0)
        places = np.array([list(scores).index(name) for name in chance])
        levels = [scale * np.mean(values) for values in chance.values()]
        if chance:
            bottom, top = places - 0.45, places + 0.45
            axis.vlines(levels, bottom, top, color=COLOURS[1], linewidth=1.8, label="chance")
        axis.set_yticks(range(len(scores)), list(scores))
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.set_xlabel(f"test {title}")
        _legend_above(figure, axis)
    return figure


def recall_figure(recalls: Mapping[str, Sequence[TTest]], n_candidates: Sequence[int]) -> Figure:
    """Draw Recall@k against k, a panel for each family: mean, 95 % interval, chance.

    A mean that nothing bounds, such as that of all candidates, which is 1, has no interval.

    Args:
        recalls: The mean of Recall@k and its interval for k = 1, 2, ..., by family.
        n_candidates: How many candidates a query has, by seed.
    """
    most = max(n_candidates)
    k = np.arange(1, most + 1)
    chance = np.mean([np.minimum(k / n, 1) for n in n_candidates], axis=0)
    with mpl.rc_context(STYLE):
        figure, axes = _family_panels(recalls, 2.0)
        for axis, tests, colour in zip(axes, recalls.values(), cycle(COLOURS), strict=False):
            mean, low, high = 100 * np.array([(t.mean, t.low, t.high) for t in tests]).T
            low, high = (np.where(np.isinf(end), np.nan, end) for end in (low, high))
            axis.fill_between(
                k,
                np.clip(low, 0, 100),
                np.clip(high, 0, 100),
                color=colour,
                alpha=0.25,
                lw=0,
                label="95 % interval",
            )
            axis.plot(k, mean, color=colour, label="mean over seeds")
            axis.plot(k, 100 * chance, "--", color=GREY, linewidth=1, label="chance")
            axis.set_xscale("log")
            axis.set_xticks([each for each in RECALL_AT if each < most / 2] + [most])
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_locator(NullLocator())
        axes[0].set_ylim(0, 100)
        figure.supxlabel("k, candidates looked at")
        figure.supylabel("test Recall@k (%)")
        _legend_above(figure, axes[0])
    return figure


def rank_figure(ranks: Mapping[str, Sequence[np.ndarray]], stimulus: str) -> Figure:
    """Draw how often the true stimulus has which rank, relative to chance, a panel per family.

    Args:
        ranks: Ranks by family, one array per seed.
        stimulus: What one stimulus is called.
    """
    most = max(candidates_by_seed(ranks))
    edges = rank_edges(most)
    with mpl.rc_context(STYLE):
        figure, axes = _family_panels(ranks, 1.7)
        for axis, by_seed, colour in zip(axes, ranks.values(), cycle(COLOURS), strict=False):
            axis.stairs(rank_ratios(by_seed), edges, fill=True, color=colour)
            axis.axhline(1, color=GREY, linestyle="--", linewidth=1, label="chance")
            axis.set_xlim(edges[0], edges[-1])
            axis.set_xticks([1, most])
        figure.supxlabel(f"rank of the true {stimulus}, of {most}")
        figure.supylabel("queries, multiples of chance")
        _legend_above(figure, axes[0])
    return figure


def candidates_by_seed(ranks: Mapping[str, Sequence[np.ndarray]]) -> list[int]:
    """Candidates of each seed: the queries' own stimuli, whose ranks these are, by family."""
    return [len(of_seed) for of_seed in next(iter(ranks.values()))]


def rank_edges(most: int) -> np.ndarray:
    """Edges of bins of equal width for ranks from 1 to `most`; the last one may be narrower."""
    width = math.ceil(most / _RANK_BINS)
    return np.minimum(np.arange(0, most + width, width), most) + 0.5


def rank_ratios(ranks: Sequence[np.ndarray]) -> np.ndarray:
    """All seeds' queries in each bin of ranks, in multiples of what chance puts there.

    Args:
        ranks: Ranks of each seed's queries, `[queries]`, among as many candidates; seeds may differ
            in number.
    """
    edges = rank_edges(max(map(len, ranks)))
    counts, _ = np.histogram(np.concatenate(ranks), edges)
    by_chance = sum(np.diff(np.minimum(edges, len(each) + 0.5)) for each in ranks)
    ratios: np.ndarray = counts / by_chance
    return ratios


def curve_figure(curves: Mapping[str, Sequence[Curve]], metric: str) -> Figure:
    """Draw the validation metric by epoch, a panel per family and a line per seed.

    Args:
        curves: Curves by family, one per seed.
        metric: Metric that the curves show.
    """
    scale, title = scale_and_title(metric)
    with mpl.rc_context(STYLE):
        figure, axes = _family_panels(curves, 1.9)
        for axis, by_seed, colour in zip(axes, curves.values(), cycle(COLOURS), strict=False):
            for curve in by_seed:
                scores = scale * np.asarray(curve.scores)
                epochs = np.arange(1, len(scores) + 1)
                axis.plot(epochs, scores, color=colour, linewidth=0.8, alpha=0.7)
            chosen = [curve.best_epoch for curve in by_seed]
            best = [scale * curve.scores[curve.best_epoch - 1] for curve in by_seed]
            axis.plot(chosen, best, "o", color=colour, markersize=3.5, label="epoch chosen")
            locator = axis.xaxis.get_major_locator()
            assert isinstance(locator, MaxNLocator)  # of an axis of numbers
            locator.set_params(integer=True)
        axes[0].set_ylim(bottom=0)
        figure.supxlabel("epoch")
        figure.supylabel(f"validation {title}")
        handles, _ = axes[0].get_legend_handles_labels()
        one_seed = Line2D([], [], color=COLOURS[0], linewidth=0.8, alpha=0.7)
        figure.legend(
            [one_seed, *handles],
            ["one seed", "epoch chosen"],
            loc="outside upper center",
            ncols=2,
            frameon=False,
        )
    return figure


def learning_curve_figure(curve: LearningCurve, chance: float, metric: str) -> Figure:
    """Draw scores against the minutes trained on, and the curves that they support.

    Args:
        curve: Scores by seed and share, and the curves.
        chance: What a random ranking reaches, as a fraction.
        metric: Metric of the scores.
    """
    scale, title = scale_and_title(metric)
    minutes, scores = curve.minutes, scale * curve.scores
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axis = figure.subplots()
        lines = axis.plot(
            minutes.T, scores.T, color=GREY, alpha=0.6, linewidth=0.7, marker=".", markersize=3
        )
        lines[0].set_label("one seed")
        axis.errorbar(
            minutes.mean(axis=0),
            scores.mean(axis=0),
            scores.std(axis=0, ddof=1),
            fmt="o",
            capsize=3,
            color=COLOURS[0],
            label="mean ± sd over seeds",
        )
        _draw_curves(axis, curve, scale)
        axis.axhline(scale * chance, color=GREY, linestyle="--", linewidth=1, label="chance")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("minutes of speech trained on")
        axis.set_ylabel(f"test {title}")
        handles, labels = axis.get_legend_handles_labels()
        columns = len(labels) if len(labels) < 6 else 3
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw_curves(axis: Axes, curve: LearningCurve, scale: int) -> None:
    """Draw the supported curves as far as they are extrapolated, the best with its interval."""
    if not curve.supported:
        return
    most, furthest = curve.most_minutes, curve.furthest_minutes
    at = np.linspace(curve.minutes.mean(axis=0)[0], furthest, 200)
    axis.axvspan(most, furthest, color=GREY, alpha=0.1, linewidth=0)
    styles = zip(COLOURS[1:], ("-", (0, (4, 1.5)), (0, (1, 1))), strict=False)
    for place, (each, (colour, style)) in enumerate(zip(curve.supported, styles, strict=False)):
        values = scale * np.array([each.at(m) for m in at])
        axis.plot(at, values[:, 0], color=colour, linestyle=style, label=each.name, zorder=2.5)
        if place == 0:
            axis.fill_between(
                at, values[:, 1], values[:, 2], color=colour, alpha=0.25, lw=0, zorder=1.5
            )
    axis.set_xlim(right=furthest)


def swept_fields(tried: Sequence[TriedConfiguration]) -> list[str]:
    """Fields of which configurations have several levels, in order of appearance."""
    levels: dict[str, set[Level]] = {}
    for each in tried:
        for name, level in each.configuration.items():
            levels.setdefault(name, set()).add(level)
    return [name for name, found in levels.items() if len(found) > 1]


def response_figure(tried: Sequence[TriedConfiguration], metric: str) -> Figure:
    """Draw the validation metric against every field that was swept, a panel each.

    Args:
        tried: The search's configurations; of one field at least they have several levels.
        metric: Metric of the scores.
    """
    fields = swept_fields(tried)
    scale, title = scale_and_title(metric)
    families = list(dict.fromkeys(each.family for each in tried))
    marks = {name: Mark.of(place) for place, name in enumerate(families)}
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(fields), 2.7, per_row=3, shared_x=False)
        for axis, field in zip(axes, fields, strict=True):
            # Of a family some may lack the field: it goes with one kind of a part.
            having = _having(tried, field)
            levels = list(dict.fromkeys(each.configuration[field] for each in having))
            places, are_numbers = _places(levels), all(map(is_number, levels))
            for group, shift in _groups(having, field, joined=are_numbers):
                at = [places[each.configuration[field]] for each in group]
                mark = marks[group[0].family]
                _response(axis, at, group, scale, mark, shift, joined=are_numbers)
            for each in tried:
                if not each.configuration:
                    level = float(scale * np.mean(each.scores))
                    axis.axhline(level, color=GREY, linestyle="--", linewidth=1, zorder=0)
            axis.set_xlabel(field)
            axis.margins(x=0.1)  # room for the shifts
            if not are_numbers:
                names = [_level_name(field, level) for level in places]
                room = _RESPONSE_CHARACTERS // min(len(fields), 3)
                _name_levels(axis, names, [*places.values()], room)
            elif _spans_decades(list(places.values())):
                axis.set_xscale("log")
        figure.supylabel(f"validation {title}")
        _response_legend(figure, tried, marks)
    return figure


def names_of(tried: Sequence[TriedConfiguration], field: str) -> list[Level]:
    """Levels of a field that are not all numbers, those with the best means first."""
    best: dict[Level, float] = {}
    for each in tried:
        if field in each.configuration:
            level, mean = each.configuration[field], float(np.mean(each.scores))
            best[level] = max(mean, best.get(level, -math.inf))
    if all(map(is_number, best)):
        return []
    return sorted(best, key=best.__getitem__, reverse=True)


def _having(tried: Sequence[TriedConfiguration], field: str) -> list[TriedConfiguration]:
    """Configurations that have a field; of more names than can be read those of the best."""
    having = [each for each in tried if field in each.configuration]
    names = names_of(tried, field)
    if len(names) <= MOST_NAMES:
        return having
    return [each for each in having if each.configuration[field] in names[:MOST_NAMES]]


def styled_matrix(matrix: Matrix) -> Figure:
    """Draw the matrix configuration x seed in the ink of the other figures."""
    with mpl.rc_context(STYLE):
        return draw_matrix(matrix)


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render a figure as PNG, SVG or PDF, dark on white; the same figure gives the same bytes."""
    return _render(figure, kind, transparent=False)


def page_svg(figure: Figure) -> str:
    """Render a figure for a page: on nothing, words and axes in the colour of the text around."""
    return _render(figure, "svg", transparent=True).decode().replace(INK, "currentColor")


def _render(figure: Figure, kind: str, *, transparent: bool) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, metadata=_SILENT[kind], transparent=transparent)
    return buffer.getvalue()


def _bar(axis: Axes, place: int, row: np.ndarray, colour: str, *, names_marks: bool) -> None:
    spread = row.std(ddof=1) if len(row) > 1 else 0.0
    spread_name, seed_name = ("mean ± sd over seeds", "one seed") if names_marks else (None, None)
    axis.barh(place, row.mean(), color=colour, height=0.7)
    axis.errorbar(
        row.mean(), place, xerr=spread, label=spread_name, color=INK, capsize=2, linewidth=1
    )
    places = np.full(len(row), place)
    axis.plot(row, places, ".", color=INK, markersize=2, alpha=0.6, label=seed_name)


def _shades() -> Iterator[str]:
    yield COLOURS[0]  # what the others are compared with
    yield from repeat(GREY)


def scale_and_title(metric: str) -> tuple[int, str]:
    """The factor from fractions to what is drawn, and a metric's title with its unit."""
    return (1, metric_title(metric)) if metric == "mrr" else (100, f"{metric_title(metric)} (%)")


def _panels(n: int, height: float, per_row: int, shared_x: bool) -> tuple[Figure, list[Axes]]:
    """A figure with n panels of one height in inches, on a common y axis."""
    rows, columns = math.ceil(n / per_row), min(n, per_row)
    figure = Figure(figsize=(WIDTH, 0.7 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared_x, sharey=True)
    axes = list(grid.ravel())
    for axis in axes[n:]:
        axis.remove()
    for axis in axes[:n]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:n]


def _family_panels(families: Collection[str], height: float) -> tuple[Figure, list[Axes]]:
    figure, axes = _panels(len(families), height, per_row=4, shared_x=True)
    for axis, family in zip(axes, families, strict=True):
        axis.set_title(textwrap.fill(family, 22))
    return figure, axes


def _legend_above(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _places(levels: Sequence[Level]) -> dict[Level, float]:
    """Where the values of a field are drawn: numbers as such, all others side by side."""
    numbers = list(filter(is_number, levels))
    if len(numbers) < len(levels):
        return {level: float(place) for place, level in enumerate(levels)}
    return {level: float(level) for level in numbers}


def _groups(
    tried: Sequence[TriedConfiguration], field: str, *, joined: bool
) -> Iterator[tuple[list[TriedConfiguration], float]]:
    """Configurations of a family, and how far they are shifted: so that none hides another.

    Args:
        tried: Configurations that have the field.
        field: The field whose levels are drawn.
        joined: Whether a line joins the levels of a family, which are shifted alike then; else
            each level is a group, shifted among the families that have it.

    Yields:
        Configurations of one family, and their shift to the right in points.
    """
    at: dict[Level, list[str]] = {}
    for family, level in dict.fromkeys((each.family, each.configuration[field]) for each in tried):
        at.setdefault(level, []).append(family)
    families = list(dict.fromkeys(each.family for each in tried))
    share = any(len(found) > 1 for found in at.values())
    for family in families:
        mine = [each for each in tried if each.family == family]
        if joined:
            yield mine, _beside(family, families) if share else 0.0
            continue
        for level in (level for level, found in at.items() if family in found):
            group = [each for each in mine if each.configuration[field] == level]
            yield group, _beside(family, at[level])


def _beside(family: str, families: Sequence[str]) -> float:
    """How far one of several families at a place is shifted, in points."""
    n = len(families)
    return min(_BESIDE, 2 * _FURTHEST / n) * (families.index(family) - (n - 1) / 2)


def _name_levels(axis: Axes, names: Sequence[str], places: Sequence[float], room: int) -> None:
    """Write the names of levels below their places, turned where they don't fit beside each other.

    Args:
        axis: The panel.
        names: Name of each level.
        places: Place of each level.
        room: Characters that fit below the panel.
    """
    widest = max(len(line) for name in names for line in name.splitlines())
    is_wide = (widest + 2) * len(names) > room
    axis.set_xticks(places, names)
    if is_wide:
        for label in axis.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _level_name(field: str, level: Level) -> str:
    """A level as an axis names it: in a few short lines, a file without its folders."""
    name = describe({field: level}) if isinstance(level, str) else str(level)
    short = name.rpartition("/")[2] or name
    spaced = re.sub(r"([+,:])(?=\S)", "\\1 \0", short)  # where a line may break
    lines = textwrap.wrap(spaced, _LEVEL_CHARACTERS, max_lines=_LEVEL_LINES, placeholder="…")
    return "\n".join(lines).replace(" \0", "").replace("\0", "")


def _response(
    axis: Axes,
    at: Sequence[float],
    tried: Sequence[TriedConfiguration],
    scale: int,
    mark: Mark,
    shift: float,
    *,
    joined: bool,
) -> None:
    """Draw a family's configurations side by side with those of others.

    A line joins the means by level where levels are numbers; there is nothing between two names.
    """
    beside = ScaledTranslation(shift / 72, 0, axis.figure.dpi_scale_trans)
    plot = partial(axis.plot, color=mark.colour, transform=axis.transData + beside)
    by_level: dict[float, list[float]] = defaultdict(list)
    for level, each in zip(at, tried, strict=True):
        scores = scale * np.asarray(each.scores)
        mean, spread = scores.mean(), scores.std(ddof=1) if len(scores) > 1 else 0.0
        ends = (mean - spread, mean + spread) if each.complete else (mean, mean)
        face = mark.colour if each.complete else "none"
        plot([level, level], ends, linewidth=0.8, alpha=0.5)
        plot(level, mean, mark.marker, markerfacecolor=face, markersize=4)
        axis.update_datalim([(level, end) for end in ends])  # which shifted points don't count for
        if each.complete:
            by_level[level].append(mean)
    levels = sorted(by_level)
    means = [np.mean(by_level[level]) for level in levels]
    if joined:
        plot(levels, means, linewidth=0.8, alpha=0.6)


def _spans_decades(levels: Sequence[float]) -> bool:
    return min(levels) > 0 and max(levels) / min(levels) > _DECADES


def _response_legend(
    figure: Figure, tried: Sequence[TriedConfiguration], marks: Mapping[str, Mark]
) -> None:
    swept = {each.family for each in tried if each.configuration}
    handles = [
        Line2D([], [], color=mark.colour, marker=mark.marker, linewidth=0.8, markersize=4)
        if family in swept
        else Line2D([], [], color=GREY, linestyle="--", linewidth=1)
        for family, mark in marks.items()
    ]
    names = list(marks)
    if not all(each.complete for each in tried):
        handles.append(Line2D([], [], color=GREY, marker="o", mfc="none", ms=4, linewidth=0))
        names.append("not every seed")
    columns = max(1, min(3, _LEGEND_CHARACTERS // (max(map(len, names)) + 6)))
    figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)


def _seed_panel(axis: Axes, scores: Mapping[str, np.ndarray], chance: float, metric: str) -> None:
    scale, title = scale_and_title(metric)
    places = np.arange(len(scores))
    values = scale * np.stack(list(scores.values()))
    lines = axis.plot(
        places, values, color=GREY, alpha=0.6, linewidth=0.7, marker=".", markersize=3
    )
    lines[0].set_label("one seed")
    for place, row, colour in zip(places, values, cycle(COLOURS), strict=False):
        spread = row.std(ddof=1) if len(row) > 1 else 0.0
        label = "mean ± sd over seeds" if place == 0 else None
        axis.errorbar(place, row.mean(), spread, fmt="o", capsize=3, color=colour, label=label)
    axis.axhline(scale * chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    if len(scores) > _MOST_UPRIGHT:
        axis.set_xticks(places, list(scores), rotation=35, ha="right", rotation_mode="anchor")
    else:
        width = min(12, _PANEL_CHARACTERS // len(scores))
        axis.set_xticks(places, [textwrap.fill(family, width) for family in scores])
    axis.set_xlim(-0.4, len(scores) - 0.6)
    axis.set_ylim(bottom=0)
    axis.set_ylabel(f"test {title}")
