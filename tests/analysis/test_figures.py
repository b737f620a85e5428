from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.figures import family_figure, figure_bytes
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


@pytest.mark.parametrize("kind", ["png", "svg"])
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
