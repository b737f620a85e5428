from __future__ import annotations

import io
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.image import imread

from ssense.engine.core.matrix import Matrix, MatrixRow
from ssense.engine.view.matrix_figure import draw_matrix, matrix_figure

Colour = tuple[float, float, float]

LONG = "electrode 0.75, frequency 0.75, time 0.75"


def row(family: str, name: str, scores: tuple, **known) -> MatrixRow:
    return MatrixRow(
        family=family,
        name=name,
        states=tuple("done" if isinstance(score, float) else score for score in scores),
        scores=tuple(score if isinstance(score, float) else None for score in scores),
        **known,
    )


def small() -> Matrix:
    rows = (
        row("no masking", "no masking", (0.5, 0.625, 0.75), leads=True),
        row("electrode", "electrode 0.5", (0.25, "failed", "dropped"), dropped=True),
        row("both", LONG, ("running", "waiting", "waiting")),
        row("electrode", "electrode 0.1", (0.3, 0.4, 0.5), leads=True),
    )
    return Matrix(metric="recall@10", seeds=(3, 7, 20240101), rows=rows)


def large(n_rows: int, n_seeds: int) -> Matrix:
    rng = np.random.default_rng(0)
    rows = tuple(
        row(f"family {i % 4}", LONG, tuple(map(float, rng.random(n_seeds))), leads=i < 4)
        for i in range(n_rows)
    )
    return Matrix(metric="recall@10", seeds=tuple(range(n_seeds)), rows=rows)


def lines(figure) -> list[list[str]]:
    """Words of the page, line by line, from left to right."""
    places = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        if text.get_text().strip():
            places.setdefault(round(y, 3), []).append((x, text.get_text().strip()))
    return [[word for _, word in sorted(places[y])] for y in sorted(places)]


def boxes(figure) -> list[tuple[str, Colour, Colour]]:
    """Every box: its text, its colour and the colour of its text."""
    axis = figure.axes[0]
    text_at = {tuple(np.round(text.get_position(), 6)): text for text in axis.texts}
    texts = [text_at[tuple(np.round(patch.get_center(), 6))] for patch in axis.patches]
    return [
        (text.get_text(), to_rgb(patch.get_facecolor()), to_rgb(text.get_color()))
        for patch, text in zip(axis.patches, texts, strict=True)
    ]


def test_the_page_reads_family_by_family_in_order_of_proposal():
    header, *rest, legend = lines(draw_matrix(small()))
    assert header == ["seed", "3", "7", "20240101", "mean ± sd", "done", "behind *"]
    assert rest == [
        ["no masking"],
        ["* no masking", "50.0", "62.5", "75.0", "62.5 ± 12.5", "3 of 3"],
        ["electrode"],
        ["– electrode 0.5", "25.0", "×", "–", "25.0", "1 of 3", "5.0"],
        ["* electrode 0.1", "30.0", "40.0", "50.0", "40.0 ± 10.0", "3 of 3"],
        ["both"],
        [LONG, ">", "·", "·", "0 of 3"],
    ]
    assert legend == ["* leads its family   > running   × failed   · waiting   – dropped"]


def test_scores_are_coloured_from_the_lowest_to_the_highest():
    drawn = [(text, colour) for text, colour, _ in boxes(draw_matrix(small()))]
    for shown, share in {"25.0": 0.0, "50.0": 0.5, "75.0": 1.0, "40.0 ± 10.0": 0.3}.items():
        assert (shown, to_rgb(colormaps["viridis"](share))) in drawn


def test_cells_without_a_score_differ_from_every_score_and_from_each_other():
    colours = {text: colour for text, colour, _ in boxes(draw_matrix(small()))}
    missing = np.array([colours[mark] for mark in "×–·"])
    scale = colormaps["viridis"](np.linspace(0, 1, 256))[:, :3]
    assert np.abs(missing[:, None] - scale).max(axis=-1).min() > 0.2
    assert len({tuple(colour) for colour in missing}) == 3


def test_a_mean_with_a_seed_missing_is_not_coloured():
    rows = (row("electrode", "electrode 0.5", (0.5, 0.6, "failed")),)
    figure = draw_matrix(Matrix(metric="mrr", seeds=(0, 1, 2), rows=rows))
    (whole,) = [patch for patch in figure.axes[0].patches if patch.get_width() > 0.9]
    assert to_rgba(whole.get_facecolor())[3] == 0


def test_a_dark_page_shows_through_where_there_is_no_score():
    with mpl.rc_context({"text.color": "#123456"}):
        figure = draw_matrix(small())
    axis = figure.axes[0]
    at = {tuple(np.round(text.get_position(), 6)): text for text in axis.texts}
    for patch in axis.patches:
        text = at[tuple(np.round(patch.get_center(), 6))]
        see_through = to_rgba(patch.get_facecolor())[3] < 0.3
        is_mean_of_some = patch.get_width() > 0.9 and "±" not in text.get_text()
        assert see_through == (text.get_text() in (">", "·", "–") or is_mean_of_some)
        assert patch.get_edgecolor()[3] == 0
        if see_through:  # in the ink of the page around it
            assert to_rgb(text.get_color()) == to_rgb("#123456")


@pytest.mark.parametrize("matrix", [small(), large(1, 1), large(4, 5), large(40, 10)])
def test_everything_is_on_the_page_and_large_enough_to_read(matrix):
    figure = draw_matrix(matrix)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in [t for axis in figure.axes for t in [*axis.texts, axis.xaxis.label]]:
        if text.get_text():
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= 0
            assert box.y1 <= figure.bbox.y1
            assert text.get_fontsize() >= 7


@pytest.mark.parametrize("matrix", [small(), large(6, 10)])
def test_no_two_texts_of_a_line_touch(matrix):
    figure = draw_matrix(matrix)
    renderer = FigureCanvasAgg(figure).get_renderer()
    line_of = defaultdict(list)
    for text in figure.axes[0].texts:
        if text.get_text().strip():
            line_of[round(text.get_position()[1], 3)].append(text.get_window_extent(renderer))
    for extents in line_of.values():
        extents.sort(key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in pairwise(extents))


def test_text_contrasts_with_its_box():
    def luminance(colour):  # WCAG 2.2, "relative luminance"
        c = np.array(colour)
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    for _, *colours in boxes(draw_matrix(large(40, 10))):  # all of which have a score
        dark, light = sorted(map(luminance, colours))
        assert (light + 0.05) / (dark + 0.05) > 4.4  # WCAG asks for 4.5, which grey can't give


@pytest.mark.parametrize("n_rows", [4, 40, 200])
def test_the_page_grows_with_the_configurations(n_rows):
    few, many = (draw_matrix(large(n, 2)).get_figheight() for n in (4, n_rows))
    assert many - few == pytest.approx(0.19 * (n_rows - 4))


def test_the_png_is_that_page_and_the_same_every_time():
    png = matrix_figure(small())
    width, height = draw_matrix(small()).get_size_inches()
    shape = imread(io.BytesIO(png)).shape
    assert shape[:2] == pytest.approx((150 * height, 150 * width), abs=1)
    assert matrix_figure(small()) == png


def test_a_very_tall_page_is_limited_in_pixels():
    rows = tuple(row("family", str(i), ("waiting",)) for i in range(1100))
    png = matrix_figure(Matrix(metric="mrr", seeds=(0,), rows=rows))
    assert imread(io.BytesIO(png)).shape[0] == pytest.approx(30_000, abs=1)


@pytest.mark.parametrize("rows", [(), (row("electrode", "$x_1$ 0.5", ("running", "waiting")),)])
def test_a_sweep_without_results_has_a_figure_without_scale(rows):
    figure = draw_matrix(Matrix(metric="mrr", seeds=(0, 1), rows=rows))
    assert len(figure.axes) == 1
    assert [line[0] for line in lines(figure)[2:-1]] == [row.name for row in rows]


def test_matplotlib_is_not_imported_before_a_figure_is_drawn():
    code = "import sys, ssense.engine.view.matrix_figure; print('matplotlib' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["all bands", "W" * 40, "i" * 60])
@pytest.mark.parametrize("leads", [True, False])
def test_names_of_rows_lie_on_the_page_with_their_marks(name, leads):
    of = row("bands", name, (0.5, 0.6), leads=leads, dropped=not leads)
    figure = draw_matrix(Matrix(metric="recall@10", seeds=(0, 1), rows=(of,)))
    FigureCanvasAgg(figure).draw()
    (text,) = (each for each in figure.axes[0].texts if name in each.get_text())
    assert text.get_text() != name
    assert text.get_window_extent().x0 > 0
