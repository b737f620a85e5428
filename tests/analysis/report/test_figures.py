from __future__ import annotations

import io
import os
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.measure.inference import TTest, corrected_resampled_ttest
from analysis.report.figures import (
    COLOURS,
    FIGURE_KINDS,
    INK,
    MOST_NAMES,
    Curve,
    Mark,
    TriedConfiguration,
    bar_figure,
    curve_figure,
    family_figure,
    figure_bytes,
    page_svg,
    rank_edges,
    rank_figure,
    rank_ratios,
    recall_figure,
    response_figure,
    styled_matrix,
    swept_fields,
)
from ssense.engine.core.matrix import Matrix, MatrixRow
from ssense.retrieval import METRICS, chance_metrics

FAMILIES = ("no masking", "electrode", "electrode + frequency-time")
CHANCE = chance_metrics(292)
N_SEEDS = 4


def scores(n_seeds: int = N_SEEDS, families: tuple[str, ...] = FAMILIES) -> dict:
    rng = np.random.default_rng(0)
    return {family: {metric: rng.random(n_seeds) for metric in METRICS} for family in families}


@pytest.fixture
def figure() -> Figure:
    return family_figure(scores(), CHANCE, ["recall@10", "mrr"])


def seed_lines(axis) -> list:
    return [line for line in axis.lines if line.get_linewidth() == 0.7]


def chance_lines(axis) -> list:
    return [line for line in axis.lines if line.get_linestyle() == "--"]


def test_axes_carry_their_units(figure):
    assert [axis.get_ylabel() for axis in figure.axes] == ["test Recall@10 (%)", "test MRR"]


def test_families_stand_side_by_side_in_their_order(figure):
    for axis in figure.axes:
        labels = [" ".join(t.get_text().split()) for t in axis.get_xticklabels()]
        assert [label.replace("- ", "-") for label in labels] == list(FAMILIES)


def test_each_seed_is_a_line_through_the_families(figure):
    for axis, metric, scale in zip(figure.axes, ("recall@10", "mrr"), (100, 1), strict=True):
        drawn = [list(line.get_ydata()) for line in seed_lines(axis)]
        by_seed = zip(*(values[metric] for values in scores().values()), strict=True)
        assert drawn == [[scale * value for value in seed] for seed in by_seed]


def test_chance_is_a_line_at_its_place(figure):
    for axis, chance in zip(figure.axes, (100 * 10 / 292, CHANCE["mrr"]), strict=True):
        (line,) = chance_lines(axis)
        assert list(line.get_ydata()) == pytest.approx([chance, chance])


@pytest.mark.parametrize("n_seeds", [1, 4])
@pytest.mark.parametrize("n_families", [1, 8])
def test_every_family_has_its_mean_and_sd(n_seeds, n_families):
    drawn = scores(n_seeds, tuple(f"family {i}" for i in range(n_families)))
    (axis,) = family_figure(drawn, CHANCE, ["mrr"]).axes
    marks = [container.lines for container in axis.containers]
    assert len(marks) == n_families
    for (mean, _, (bar,)), values in zip(marks, drawn.values(), strict=True):
        mrr, sd = values["mrr"], values["mrr"].std(ddof=1) if n_seeds > 1 else 0
        assert mean.get_ydata() == pytest.approx(mrr.mean())
        low, high = bar.get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((mrr.mean() - sd, mrr.mean() + sd))


def test_the_legend_names_each_kind_of_mark_once(figure):
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == ["chance", "mean ± sd over seeds", "one seed"]


def test_pdf_has_the_same_bytes_in_every_process_and_whole_fonts_in_it():
    code = (
        "import sys; from analysis.report.figures import bar_figure, figure_bytes; "
        "figure = bar_figure({'a': [0.1, 0.2], 'b – ±': [0.3, 0.4]}, 'mrr', {'a': [0.1]}); "
        "sys.stdout.buffer.write(figure_bytes(figure, 'pdf'))"
    )
    pdfs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert pdfs[0] == pdfs[1]
    assert pdfs[0].startswith(b"%PDF")
    assert b"/FontFile2" in pdfs[0]  # TrueType, in the file
    assert b"/Type3" not in pdfs[0]
    assert b"Date" not in pdfs[0]


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_the_same_scores_give_the_same_bytes(kind, figure):
    again = family_figure(scores(), CHANCE, ["recall@10", "mrr"])
    assert figure_bytes(figure, kind) == figure_bytes(again, kind)


def test_png_has_the_pixels_of_print(figure):
    image = imread(io.BytesIO(figure_bytes(figure, "png")))
    assert image.shape[:2] == (580, 1400)  # 7.0 x 2.9 inches at 200 per inch
    assert image.std() > 0


def test_svg_holds_its_words_as_text(figure):
    root = ElementTree.fromstring(figure_bytes(figure, "svg"))
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"test Recall@10 (%)", "test MRR", "no masking", "chance"} <= words


def test_in_a_page_words_have_the_colour_of_the_text_around_and_there_is_no_ground(figure):
    svg = page_svg(figure)
    assert INK not in svg
    assert svg.count("currentColor") > 10
    root = ElementTree.fromstring(svg)
    for name in ("patch_1", "patch_2"):  # the ground of figure and axes
        (ground,) = (e for e in root.iter("{http://www.w3.org/2000/svg}g") if e.get("id") == name)
        assert "fill: none" in ground[0].get("style")


def test_a_file_is_dark_on_white_wherever_it_is_opened(figure):
    svg = figure_bytes(figure, "svg").decode()
    assert "currentColor" not in svg
    assert svg.count(INK) > 10
    assert "fill: #ffffff" in svg
    assert "http" not in svg.replace("http://www.w3.org/", "")


def test_png_is_dark_on_white(figure):
    pixels = imread(io.BytesIO(figure_bytes(figure, "png")))
    assert (pixels[0] == 1).all()
    assert pixels[..., :3].min() < 0.15


# ---------------------------------------------------------------- ranks

N_TEST, N_TRAIN = 60, 180
MID_RANKS = st.lists(st.integers(2, 2 * N_TEST).map(lambda x: x / 2), min_size=1, max_size=40)


def ranks_by_family(families: int = 2, seeds: int = 4) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        f"family {i}": [rng.integers(2, 2 * N_TEST + 1, N_TEST) / 2 for _ in range(seeds)]
        for i in range(families)
    }


def recalls_of(ranks: list[np.ndarray], sizes: tuple[int, int]) -> list[TTest]:
    return [
        corrected_resampled_ttest([np.mean(each <= k) for each in ranks], *sizes)
        for k in range(1, max(map(len, ranks)) + 1)
    ]


def test_recall_is_drawn_with_its_interval():
    ranks = ranks_by_family()
    recalls = {name: recalls_of(each, (N_TRAIN, N_TEST)) for name, each in ranks.items()}
    drawn = recall_figure(recalls, [N_TEST] * 4)
    for axis, by_seed in zip(drawn.axes, ranks.values(), strict=True):
        mean, chance = axis.lines
        at_10 = 100 * np.array([np.mean(each <= 10) for each in by_seed])
        assert list(mean.get_xdata()) == list(range(1, N_TEST + 1))
        assert mean.get_ydata()[9] == pytest.approx(at_10.mean())
        assert chance.get_ydata()[9] == pytest.approx(1000 / N_TEST)
        (band,) = axis.collections
        test = corrected_resampled_ttest(at_10, N_TRAIN, N_TEST)
        vertices = np.concatenate([path.vertices for path in band.get_paths()])
        ends = vertices[vertices[:, 0] == 10, 1]
        expected = max(0, test.low), min(100, test.high)
        assert (ends.min(), ends.max()) == pytest.approx(expected)
        # All candidates hold every true one: nothing is to be bounded there.
        assert N_TEST not in vertices[:, 0]
    assert drawn.get_supxlabel() == "k, candidates looked at"
    assert drawn.get_supylabel() == "test Recall@k (%)"


@given(st.integers(1, 400))
def test_rank_bins_hold_every_rank_once(n_test):
    edges = rank_edges(n_test)
    assert (edges[0], edges[-1]) == (0.5, n_test + 0.5)
    assert len(edges) <= 21
    widths = np.diff(edges)
    assert (widths > 0).all()
    assert (widths[:-1] == widths[0]).all()
    assert widths[-1] <= widths[0]


@given(st.integers(1, 400))
def test_a_perfectly_random_ranking_is_at_chance_in_every_bin(n_test):
    assert rank_ratios([np.arange(1.0, n_test + 1)]) == pytest.approx(1)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5))
def test_seeds_with_fewer_candidates_are_at_their_own_chance(sizes):
    ranks = [np.arange(1.0, n + 1) for n in sizes]
    assert rank_ratios(ranks) == pytest.approx(1)
    (axis,) = recall_figure({"a": recalls_of(ranks, (60, 20))}, sizes).axes
    mean, chance = axis.lines
    assert mean.get_ydata() == pytest.approx(chance.get_ydata())
    assert list(mean.get_xdata()) == list(range(1, max(sizes) + 1))


@given(st.integers(1, 3), st.randoms(use_true_random=False))
def test_rank_ratios_account_for_every_query(n_seeds, random):
    ranks = [
        np.array(random.choices(range(2, 2 * N_TEST + 1), k=N_TEST)) / 2 for _ in range(n_seeds)
    ]
    shares = rank_ratios(ranks) * np.diff(rank_edges(N_TEST)) / N_TEST
    assert shares.sum() == pytest.approx(1)
    first = sum((each < rank_edges(N_TEST)[1]).sum() for each in ranks)
    assert shares[0] == pytest.approx(first / sum(map(len, ranks)))


@pytest.mark.parametrize("families", [1, 4, 7])
def test_families_have_a_panel_and_a_colour_each(families):
    drawn = rank_figure(ranks_by_family(families), "sentence")
    assert [axis.get_title() for axis in drawn.axes] == [f"family {i}" for i in range(families)]
    colours = [axis.patches[0].get_facecolor() for axis in drawn.axes]
    assert len(set(colours)) == min(families, len(COLOURS))
    assert drawn.get_size_inches()[0] == 7


# ---------------------------------------------------------------- the search


def test_each_curve_is_marked_at_the_epoch_chosen():
    curves = {
        "a": [Curve(scores=(0.1, 0.3, 0.2), best_epoch=2), Curve(scores=(0.4,), best_epoch=1)],
        "b": [Curve(scores=(0.0, 0.0, 0.5), best_epoch=3)],
    }
    drawn = curve_figure(curves, "recall@10")
    one, other = drawn.axes
    *lines, best = one.lines
    assert [list(line.get_ydata()) for line in lines] == [[10, 30, 20], [40]]
    assert list(zip(best.get_xdata(), best.get_ydata(), strict=True)) == [(2, 30), (1, 40)]
    assert list(other.lines[-1].get_xydata()[0]) == [3, 50]
    assert drawn.get_supylabel() == "validation Recall@10 (%)"


def tried(
    family: str, scores: tuple[float, ...], complete: bool = True, **values
) -> TriedConfiguration:
    fields = {name.replace("__", "."): value for name, value in values.items()}
    return TriedConfiguration(family=family, configuration=fields, scores=scores, complete=complete)


TRIALS = [
    tried("none", (0.1, 0.3)),
    tried("mask", (0.2, 0.4), masking__time=0.1),
    tried("mask", (0.5, 0.5), masking__time=0.5),
    tried("both", (0.1, 0.1), masking__time=0.1, learning_rate=1e-5),
    tried("both", (0.3, 0.5), masking__time=0.1, learning_rate=1e-2),
    tried("both", (0.9,), complete=False, masking__time=0.3, learning_rate=1e-3),
]


def test_every_swept_field_has_a_panel_named_as_in_the_configuration():
    assert swept_fields(TRIALS) == ["masking.time", "learning_rate"]
    drawn = response_figure(TRIALS, "recall@10")
    assert [axis.get_xlabel() for axis in drawn.axes] == ["masking.time", "learning_rate"]
    assert [axis.get_xscale() for axis in drawn.axes] == ["linear", "log"]
    assert drawn.get_supylabel() == "validation Recall@10 (%)"


def test_every_configuration_is_a_mark_at_its_mean():
    time, rate = response_figure(TRIALS, "recall@10").axes

    def drawn(axis) -> list[tuple[float, float, bool]]:
        return [
            (line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor() != "none")
            for line in axis.lines
            if line.get_marker() != "None"
        ]

    expected = [
        (0.1, 30, True),
        (0.5, 50, True),
        (0.1, 10, True),
        (0.1, 40, True),
        (0.3, 90, False),  # open: its mean is over fewer seeds
    ]
    for found, wanted in zip(drawn(time), expected, strict=True):
        assert found == pytest.approx(wanted)
    assert [level for level, _, _ in drawn(rate)] == [1e-5, 1e-2, 1e-3]


def test_lines_join_the_means_of_configurations_with_every_seed():
    time, rate = response_figure(TRIALS, "recall@10").axes

    def joined(axis) -> list[list[tuple[float, float]]]:
        return [
            [tuple(point) for point in line.get_xydata()]
            for line in axis.lines
            if line.get_alpha() == 0.6
        ]

    mask, both = joined(time)
    assert mask == [(0.1, pytest.approx(30)), (0.5, pytest.approx(50))]
    assert both == [(0.1, pytest.approx(25))]
    assert joined(rate) == [[(1e-5, pytest.approx(10)), (1e-2, pytest.approx(40))]]
    (dashed,) = chance_lines(time)
    assert dashed.get_ydata()[0] == pytest.approx(20)  # the family without fields


@pytest.mark.parametrize("levels", [(None, 2), (True, False), ("chunk", "frozen")])
def test_levels_that_are_no_numbers_stand_side_by_side(levels):
    drawn = [
        tried("f", (0.2, score), x=level) for level, score in zip(levels, (0.4, 0.6), strict=True)
    ]
    (axis,) = response_figure(drawn, "recall@10").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == list(map(str, levels))
    at = [line.get_xdata()[0] for line in axis.lines if line.get_marker() not in ("None", "none")]
    assert at == [0, 1]


def test_a_field_that_some_of_a_family_lack_is_drawn_of_those_that_have_it():
    drawn = [
        tried("mixed", (0.1, 0.3), encoder="resnet-18", encoder__batch_norm="chunk"),
        tried("mixed", (0.4, 0.4), encoder="resnet-18", encoder__batch_norm="frozen"),
        tried("mixed", (0.5, 0.7), encoder="linear"),
    ]
    kinds, norms = response_figure(drawn, "recall@10").axes

    def marks(axis) -> list[tuple[float, float]]:
        found = [line for line in axis.lines if line.get_marker() not in ("None", "none")]
        return [(line.get_xdata()[0], pytest.approx(line.get_ydata()[0])) for line in found]

    assert [tick.get_text() for tick in norms.get_xticklabels()] == ["chunk", "frozen"]
    assert marks(kinds) == [(0, 20), (0, 40), (1, 60)]
    assert marks(norms) == [(0, 20), (1, 40)]


BANDS = ("delta", "theta", "alpha", "beta", "gamma", "high-gamma")
IN_BANDS = [
    tried("spectrogram", (0.3, 0.3)),
    *(tried(name, (0.1, 0.3), features="band-power", features__bands=name) for name in BANDS),
    tried("all", (0.1, 0.3), features="band-power", features__bands="+".join(BANDS)),
]
IN_FILES = [
    tried(
        f"{place}", (0.1, 0.3), target__file=f"/a/long/{'folder/' * 9}vectors_{place}.npy", x=place
    )
    for place in range(8)
]


def marked(axis) -> list:
    return [line for line in axis.lines if line.get_marker() not in ("None", "none")]


def test_a_field_of_a_single_level_has_no_panel():
    assert swept_fields(IN_BANDS) == ["features.bands"]
    assert swept_fields([tried("one", (0.5,), x=1), tried("other", (0.5,))]) == []


@pytest.mark.parametrize("trials", [IN_BANDS, IN_FILES])
def test_names_of_levels_are_apart_however_long_they_are(trials):
    drawn = response_figure(trials, "recall@10")
    drawn.draw_without_rendering()
    for axis in drawn.axes:
        labels = [label for label in axis.get_xticklabels() if label.get_text()]
        assert all(len(line) <= 18 for each in labels for line in each.get_text().splitlines())
        for one, other in pairwise(labels):  # the turned ones end at their ticks, side by side
            apart = other.get_position()[0] - one.get_position()[0]
            points = apart * axis.bbox.width / np.diff(axis.get_xlim())[0] / drawn.dpi * 72
            lines = len(other.get_text().splitlines())
            if one.get_rotation():
                assert points * np.sin(np.radians(one.get_rotation())) > 8 * lines
            else:
                assert one.get_window_extent().x1 < other.get_window_extent().x0


def test_no_two_of_many_families_look_the_same():
    looks = {(line.get_color(), line.get_marker()) for line in marked(
        response_figure(IN_BANDS, "recall@10").axes[0]
    )}  # fmt: skip
    assert len(looks) == len(BANDS) + 1
    assert len({(mark.colour, mark.marker) for mark in map(Mark.of, range(42))}) == 42


def test_marks_stand_on_the_ticks_of_their_names():
    def shifts(drawn, axis) -> list[float]:
        drawn.draw_without_rendering()
        return [
            float(line.get_transform().transform(line.get_xydata()[0])[0])
            - float(axis.transData.transform(line.get_xydata()[0])[0])
            for line in marked(axis)
        ]

    drawn = response_figure(IN_BANDS, "recall@10")
    assert shifts(drawn, drawn.axes[0]) == pytest.approx([0] * 7)
    shared = [tried(f"{place}", (0.5, 0.5), x=name) for place in range(20) for name in ("a", "b")]
    drawn = response_figure([*shared, tried("alone", (0.5, 0.5), x="c")], "recall@10")
    *beside, alone = shifts(drawn, drawn.axes[0])
    assert alone == pytest.approx(0)
    assert len({round(each, 3) for each in beside}) == 20
    assert max(map(abs, beside)) <= 12 / 72 * drawn.dpi


def test_every_mark_lies_within_its_panel():
    drawn = response_figure(TRIALS, "recall@10")
    drawn.draw_without_rendering()
    for axis in drawn.axes:
        for line in axis.lines:
            if line.get_marker() != "None":
                x, y = line.get_transform().transform(line.get_xydata()[0])
                assert axis.bbox.x0 < x < axis.bbox.x1
                assert axis.bbox.y0 < y < axis.bbox.y1


@pytest.mark.parametrize("metric", ["recall@10", "mrr"])
def test_bars_are_means_with_every_seed_as_a_point(metric):
    drawn = bar_figure({"a": [0.1, 0.3], "b": [0.2, 0.2]}, metric, {})
    (axis,) = drawn.axes
    scale = 1 if metric == "mrr" else 100
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.2 * scale] * 2)
    points = [line.get_xdata() for line in axis.lines if line.get_marker() == "."]
    assert points[0] == pytest.approx([0.1 * scale, 0.3 * scale])
    assert axis.get_xlabel() == ("test MRR" if metric == "mrr" else "test Recall@10 (%)")
    (legend,) = drawn.legends
    names = sorted(text.get_text() for text in legend.get_texts())
    assert names == ["mean ± sd over seeds", "one seed"]


def test_each_bar_has_a_mark_at_its_own_chance():
    scores = {"a": [0.1, 0.3], "b": [0.2, 0.2], "c": [0.3, 0.5]}
    drawn = bar_figure(scores, "recall@10", {"c": [0.05, 0.15], "a": [0.2, 0.3]})
    (axis,) = drawn.axes
    (marks,) = (lines for lines in axis.collections if lines.get_label() == "chance")
    ends = [segment.tolist() for segment in marks.get_segments()]
    assert np.ravel(ends) == pytest.approx([10, 1.55, 10, 2.45, 25, -0.45, 25, 0.45])
    (legend,) = drawn.legends
    assert "chance" in {text.get_text() for text in legend.get_texts()}


def test_the_matrix_is_drawn_without_a_layout_that_moves_it():
    row = MatrixRow(family="a", name="a 0.1", states=("done", "waiting"), scores=(0.25, None))
    matrix = Matrix(metric="recall@10", seeds=(0, 1), rows=(row,))
    drawn = styled_matrix(matrix)
    assert drawn.get_layout_engine() is None
    root = ElementTree.fromstring(figure_bytes(drawn, "svg"))
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a 0.1", "25.0", "1 of 2"} <= words


def test_of_more_names_than_can_be_read_a_response_shows_those_with_the_best_means():
    many = [
        tried("electrode", (number / 200, number / 200), subset=f"A{number}")
        for number in range(99)
    ]
    region = tried("region", (0.6, 0.6), subset="STG: " + ",".join(f"A{n}" for n in range(9)))
    (axis,) = response_figure([*many, region], "recall@10").axes
    names = [label.get_text() for label in axis.get_xticklabels()]
    assert sorted(names) == sorted(["STG", *(f"A{number}" for number in range(76, 99))])
    assert len(names) == MOST_NAMES
    numbers = [tried("rate", (0.1, 0.1), rate=float(number)) for number in range(99)]
    (axis,) = response_figure(numbers, "recall@10").axes
    assert len(axis.lines) >= 99
