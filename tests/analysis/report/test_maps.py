from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.mapping.checks import Checked
from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.family_maps import CheckedMap, FamilyMaps
from analysis.mapping.parts import Axes, all_parts
from analysis.mapping.seed_map import SeedMap
from analysis.report.figures import figure_bytes, page_svg
from analysis.report.map_figures import Durations, brain_figure, places_of, shaft_figure
from analysis.report.maps import MapReport, part_rows, sentence
from analysis.report.page import html_page

N, J = 80, 4
AXES = Axes(
    electrodes=("A1", "A2", "B1-B2", "MKR"),
    rows=[5.0, 10.0, 20.0, 40.0],
    times_s=np.arange(12) / 4 - 0.5,
)
PLACES = np.array([[-50.0, -20.0, 5.0], [-45.0, -18.0, 6.0], [40.0, 10.0, 20.0], [np.nan] * 3])
PASSED = Checked(
    check="untrained encoder", correlation=0.1, pvalue=0.4, largest=0.01, contradicts=False
)


def effects() -> list[EffectMap]:
    """Every kind of map; the second part of each carries half of the score."""
    parts = all_parts(("electrodes", "times", "bands", "times-bands"), AXES, {}, 3, 2)
    second = {part.what: number for number, part in reversed([*enumerate(parts)])}
    carrying = [number + 1 for number in second.values()]
    found = []
    for seed in range(J):
        rng = np.random.default_rng(seed)
        intact, occluded = np.ones((len(parts), N)), np.ones((len(parts), N))
        for number, part in enumerate(parts):
            alone = part.what.endswith("alone")
            missed = rng.random(N) < (0.5 if number in carrying else 0.875 if alone else 0.02)
            occluded[number, missed] = N
        permuted = rng.normal(0, 0.01, (100, len(parts)))
        found.append(
            SeedMap(seed=seed, parts=parts, intact=intact, occluded=occluded, permuted=permuted)
        )
    return effect_maps(found, "recall@10", Resampling(n_train=240, n_test=N))


@pytest.fixture(scope="module")
def report() -> MapReport:
    maps = [
        CheckedMap(primary=each, others=[], untrained=each, checks=[PASSED]) for each in effects()
    ]
    family = FamilyMaps(
        family="linear", configuration={}, seeds=range(J), intact=np.ones(J), maps=maps
    )
    return MapReport(
        title="Maps",
        caption="Mapped.",
        families=[family],
        axes=AXES,
        places=PLACES,
        durations=Durations(ends_s=np.linspace(0.5, 2.5, 50)),
        notes=[],
    )


def test_the_page_has_a_section_for_each_map_and_every_figure_in_ink(report):
    pictures = report.pictures()
    page = html_page(report.title, report.sections(pictures))
    assert len(pictures) == len(report.families[0].maps) == 7
    for name, picture in pictures.items():
        assert f'<figure id="{name}">' in page
        svg = page_svg(picture.figure)
        assert "#1b1b1c" not in svg
        assert "currentColor" in svg
        assert figure_bytes(picture.figure, "png").startswith(b"\x89PNG")
    assert (
        "Electrode left out: 1 of 4 parts is shown to carry the score when left out, A2 (" in page
    )


def test_a_map_that_its_checks_contradict_concludes_nothing(report):
    found = report.families[0].maps[0]
    assert found.primary.found.sum() == 1
    contradicted = replace(found, checks=[replace(PASSED, contradicts=True)])
    assert contradicted.label == "contradicted: an untrained encoder has the same map"
    said = sentence(contradicted)
    assert said.startswith("Electrode left out: contradicted: an untrained encoder has the same")
    assert said.endswith("nothing is concluded from it.")
    assert "A2" not in said
    family = replace(report.families[0], maps=[contradicted])
    page = html_page("", replace(report, families=[family]).sections(report.pictures()))
    assert page.count("contradicted: an untrained encoder") >= 2


def test_long_tables_have_the_largest_effects_first(report):
    found = report.families[0].maps[0].primary
    rows = part_rows(found, most=2)
    assert rows[0]["part"] == "A2"
    assert len(rows) == 2
    assert len(part_rows(found, most=None)) == 4
    assert rows[0]["shown"] == "yes"
    assert float(rows[0]["effect"]) == pytest.approx(100 * found.means[1], abs=0.05)


def test_electrodes_are_drawn_in_three_views_where_they_lie(report):
    found = report.families[0].maps[0].primary
    figure = brain_figure(found, places_of(found.parts, AXES.electrodes, PLACES))
    titles = {axis.get_title() for axis in figure.axes}
    assert {"from the side", "from the front", "from above"} <= titles
    drawn = [len(c.get_offsets()) for axis in figure.axes for c in axis.collections]
    assert drawn.count(3) == 3  # the fourth lies nowhere


def test_electrodes_without_coordinates_are_drawn_by_shaft_and_number(report):
    found = report.families[0].maps[0].primary
    axis = shaft_figure(found).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B", "others"]
    assert axis.collections[0].get_offsets().tolist() == [[1, 0], [2, 0], [1, 1], [1, 2]]


def test_the_share_still_spoken_falls_from_the_onset_on():
    spoken = Durations(ends_s=np.array([1.0, 2.0])).spoken(np.array([-0.1, 0.0, 1.5, 2.0]))
    assert spoken.tolist() == [0.0, 1.0, 0.5, 0.0]
