"""The matrix configuration x seed as a figure: scores, what is missing, and the means."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ssense.engine.core.matrix import MARKS, Matrix, MatrixRow, State, mean_and_sd
from ssense.retrieval import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType

# Lighter is better, to colour-blind readers and in print too.
_COLOURS = "viridis"
# What has no colour shows the page, light or dark, and so does half of the grey.
_NOTHING = "none"
# Okabe and Ito's vermillion is not on that map, and neither is grey.
_BACKGROUND: Mapping[State, ColorType] = {
    "running": _NOTHING,
    "failed": "#D55E00",
    "waiting": _NOTHING,
    "dropped": (0.5, 0.5, 0.5, 0.2),
    "ahead": _NOTHING,
}
_GREY = "#767676"

# In inches. Lines and columns are as large as their text needs: the page grows with the sweep.
_LINE = 0.19
_APART = 0.012  # boxes
_SEED = 0.42  # a column, unless the seed has more than six digits
_MEAN = 0.95
_NUMBER = 0.6
_CHARACTER = 0.07  # on average, in bold
_GAP = 0.1
_MEASURED = 20  # of the longest names, by characters: wide letters make another the widest
_LEGEND = 4.0
_FOOTER = 0.85
_BAR = (1.8, 0.09)
_BELOW_BAR = 0.45

_FONT = 7.5  # points
_DPI = 150
_MOST_PIXELS = 30_000  # in height: from some 1,000 configurations on there are fewer per inch


def matrix_figure(matrix: Matrix) -> bytes:
    """Render the matrix as PNG; the same matrix gives the same bytes."""
    figure = draw_matrix(matrix)
    png = io.BytesIO()
    dpi = min(_DPI, _MOST_PIXELS / figure.get_figheight())
    figure.savefig(png, dpi=dpi)
    return png.getvalue()


def draw_matrix(matrix: Matrix) -> Figure:
    """Draw the validation scores (%) of configurations, family by family, x seeds.

    A cell that is done shows its score, in figures and in colour, any other the mark of its state.
    At the right are mean ± sd over the seeds that are done, how many these are, and how far the
    row is behind its family's leader on the seeds that both have. The mean is coloured where no
    seed is missing: means over different seeds can't be compared.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    n_lines = 1 + len(matrix.families) + len(matrix.rows)
    left = 2 * _GAP + _widest(matrix)
    right = max(_LEGEND, _after_seeds(matrix) + _MEAN + 2 * _NUMBER) + _GAP
    height = _LINE * n_lines + _FOOTER
    figure = Figure(figsize=(left + right, _GAP + height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-left, right), ylim=(height, -_GAP))  # in inches
    axis.axis("off")
    scores = [100 * score for row in matrix.rows for score in row.known]
    colours = ScalarMappable(Normalize(min(scores), max(scores)) if scores else None, _COLOURS)
    _draw_header(axis, matrix)
    top = _LINE
    for family in matrix.families:
        _write(axis, 0, top, family, ha="left", weight="bold")
        top += _LINE
        for row in matrix.rows:
            if row.family == family:
                _draw_row(axis, matrix, row, top, colours)
                top += _LINE
    _write(axis, 0, top + _GAP, _legend(matrix), ha="left")
    if scores:
        _draw_scale(axis, colours, f"validation {metric_title(matrix.metric)}, %")
    return figure


def _marked_name(row: MatrixRow) -> str:
    mark = "* " if row.leads else f"{MARKS['dropped']} " if row.dropped else ""
    return mark + row.name


def _widest(matrix: Matrix) -> float:
    """Width of the widest name of a row, as if bold, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    bold = FontProperties(size=_FONT, weight="bold")
    longest = sorted({_marked_name(row) for row in matrix.rows}, key=len)[-_MEASURED:]
    widths = [text_to_path.get_text_width_height_descent(n, bold, False)[0] for n in longest]
    return max(widths, default=0.0) / 72


def _seed_width(matrix: Matrix) -> float:
    return max(_SEED, *(_CHARACTER * len(str(seed)) for seed in matrix.seeds))


def _after_seeds(matrix: Matrix) -> float:
    return _seed_width(matrix) * len(matrix.seeds) + _GAP


def _draw_header(axis: Axes, matrix: Matrix) -> None:
    _write(axis, -_GAP, 0, "seed", ha="right", color=_GREY)
    for column, seed in enumerate(matrix.seeds):
        _write(axis, (column + 0.5) * _seed_width(matrix), 0, str(seed), color=_GREY)
    left = _after_seeds(matrix)
    _write(axis, left + _MEAN / 2, 0, "mean ± sd", color=_GREY)
    _write(axis, left + _MEAN + _NUMBER, 0, "done", ha="right", color=_GREY)
    _write(axis, left + _MEAN + 2 * _NUMBER, 0, "behind *", ha="right", color=_GREY)


def _draw_row(
    axis: Axes, matrix: Matrix, row: MatrixRow, top: float, colours: ScalarMappable
) -> None:
    style = {"weight": "bold"} if row.leads else {"color": _GREY} if row.dropped else {}
    _write(axis, -_GAP, top, _marked_name(row), ha="right", **style)
    width = _seed_width(matrix)
    for column, (state, score) in enumerate(zip(row.states, row.scores, strict=True)):
        shown = MARKS[state] if score is None else f"{100 * score:.1f}"
        colour = _BACKGROUND[state] if score is None else _colour(colours, score)
        _draw_box(axis, column * width, top, width, shown, colour)
    left = _after_seeds(matrix)
    is_whole = row.n_done == len(row.states)
    mean = _NOTHING if row.mean is None or not is_whole else _colour(colours, row.mean)
    _draw_box(axis, left, top, _MEAN, mean_and_sd(row), mean)
    _write(axis, left + _MEAN + _NUMBER, top, f"{row.n_done} of {len(row.states)}", ha="right")
    behind = matrix.behind(row)
    if behind is not None:
        _write(axis, left + _MEAN + 2 * _NUMBER, top, f"{100 * behind:z.1f}", ha="right")


def _colour(colours: ScalarMappable, score: float) -> ColorType:
    """The colour of a score, a fraction."""
    red, green, blue, alpha = colours.to_rgba(np.array(100 * score))
    return red, green, blue, alpha


def _draw_box(
    axis: Axes, left: float, top: float, width: float, text: str, colour: ColorType
) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    corner = left + _APART / 2, top + _APART / 2
    axis.add_patch(Rectangle(corner, width - _APART, _LINE - _APART, fc=colour, ec="none"))
    *channels, alpha = to_rgba(colour)
    red, green, blue = (channel**2.2 for channel in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # Black and white contrast equally with a luminance of 0.18 (WCAG 2, contrast ratio).
    contrast = {"color": "black" if luminance > 0.18 else "white"} if alpha == 1 else {}
    _write(axis, left + width / 2, top, text, **contrast)


def _write(
    axis: Axes, x: float, top: float, text: str, *, ha: str = "center", **style: Any
) -> None:
    style = {"fontsize": _FONT, "va": "center", "parse_math": False, **style}
    axis.text(x, top + _LINE / 2, text, ha=ha, **style)


def _legend(matrix: Matrix) -> str:
    used = matrix.counts()
    marks = (f"{MARKS[state]} {state}" for state in _BACKGROUND if used[state])
    return "   ".join(["* leads its family", *marks])


def _draw_scale(axis: Axes, colours: ScalarMappable, title: str) -> None:
    scale = axis.inset_axes((0, axis.get_ylim()[0] - _BELOW_BAR, *_BAR), transform=axis.transData)
    bar = axis.figure.colorbar(colours, cax=scale, orientation="horizontal")
    bar.set_label(title, fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT)
