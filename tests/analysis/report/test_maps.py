from __future__ import annotations

import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from analysis.mapping.checks import Checked
from analysis.mapping.effects import EffectMap, Resampling, effect_maps
from analysis.mapping.family_maps import CheckedMap, FamilyMaps
from analysis.mapping.parts import Axes, all_parts
from analysis.mapping.places import Places
from analysis.mapping.seed_map import SeedMap
from analysis.report.figures import figure_bytes, page_svg
from analysis.report.map_figures import (
    Durations,
    brain_figure,
    shaft_figure,
    time_figure,
    time_frequency_figure,
)
from analysis.report.maps import MapReport, part_rows, sentence
from analysis.report.page import Picture, html_page

N, J = 80, 4
SVG = "{http://www.w3.org/2000/svg}"
AXES = Axes(
    electrodes=("A1", "A2", "B1-B2", "MKR"),
    rows=[5.0, 10.0, 20.0, 40.0],
    times_s=np.arange(12) / 4 - 0.5,
)
MM = np.array([[-50.0, -20.0, 5.0], [-45.0, -18.0, 6.0], [40.0, 10.0, 20.0], [np.nan] * 3])
PLACES = Places(
    electrodes=AXES.electrodes, mm=MM, regions=("STG", 'a "long" <name>', "", ""), space="MNI152"
)
PASSED = Checked(
    check="untrained encoder", correlation=0.1, pvalue=0.4, largest=0.01, contradicts=False
)


def effects(axes: Axes = AXES) -> list[EffectMap]:
    """Every kind of map; the second part of each carries half of the score."""
    parts = all_parts(("electrodes", "times", "bands", "times-bands"), axes, {}, 3, 2)
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


@pytest.fixture(scope="module")
def pictures(report) -> dict[str, Picture]:
    return report.pictures()


@pytest.fixture(scope="module")
def page(report, pictures) -> str:
    return html_page(report.title, report.sections(pictures))


def test_the_page_has_a_section_for_each_map_and_every_figure_in_ink(report, pictures, page):
    assert len(pictures) == len(report.families[0].maps) == 7
    for name, picture in pictures.items():
        assert f'<figure id="{name}" class="marked">' in page
        svg = page_svg(picture.figure)
        assert "#1b1b1c" not in svg
        assert "currentColor" in svg
        assert figure_bytes(picture.figure, "png").startswith(b"\x89PNG")
    assert (
        "Electrode left out: 1 of 4 parts is shown to carry the score when left out, A2 (" in page
    )


def test_a_map_that_its_checks_contradict_concludes_nothing(report, pictures):
    found = report.families[0].maps[0]
    assert found.primary.found.sum() == 1
    contradicted = replace(found, checks=[replace(PASSED, contradicts=True)])
    assert contradicted.label == "contradicted: an untrained encoder has the same map"
    said = sentence(contradicted)
    assert said.startswith("Electrode left out: contradicted: an untrained encoder has the same")
    assert said.endswith("nothing is concluded from it.")
    assert "A2" not in said
    family = replace(report.families[0], maps=[contradicted])
    page = html_page("", replace(report, families=[family]).sections(pictures))
    assert page.count("contradicted: an untrained encoder") >= 2


def test_long_tables_have_the_largest_effects_first(report):
    found = report.families[0].maps[0].primary
    rows = part_rows(found, most=2)
    assert rows[0]["part"] == "A2"
    assert len(rows) == 2
    assert len(part_rows(found, most=None)) == 4
    assert rows[0]["shown"] == "yes"
    assert float(rows[0]["effect"]) == pytest.approx(100 * found.means[1], abs=0.05)


def marked(figure: Figure) -> list[PathCollection]:
    """What is drawn for the electrodes of a figure, view by view."""
    drawn = [c for axis in figure.axes for c in axis.collections]
    return [each for each in drawn if str(each.get_gid()).startswith("mark-")]


def test_electrodes_are_drawn_in_three_views_where_they_lie(report):
    figure = brain_figure(report.families[0].maps[0].primary, MM)
    titles = {axis.get_title() for axis in figure.axes}
    assert {"from the side", "from the front", "from above"} <= titles
    places = {each.get_gid(): [] for each in marked(figure)}
    for each in marked(figure):
        places[each.get_gid()].append(each.get_offsets()[0].tolist())
    assert places.keys() == {"mark-0", "mark-1", "mark-2"}  # the fourth lies nowhere
    assert places["mark-2"] == [[10, 20], [40, 20], [40, 10]]  # side, front, above


def test_electrodes_without_coordinates_are_drawn_by_shaft_and_number(report):
    found = report.families[0].maps[0].primary
    figure = shaft_figure(found)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["A", "B", "others"]
    places = [each.get_offsets()[0].tolist() for each in marked(figure)]
    assert places == [[1, 0], [2, 0], [1, 1], [1, 2]]


def test_shafts_and_grids_of_many_contacts_go_on_in_further_rows(report):
    found = report.families[0].maps[0].primary
    names = ("G1", "G32", "G33", "G100")
    parts = [replace(part, name=name) for part, name in zip(found.parts, names, strict=True)]
    figure = shaft_figure(replace(found, parts=parts))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["G", "G + 32", "G + 96"]
    places = [each.get_offsets()[0].tolist() for each in marked(figure)]
    assert places == [[1, 0], [32, 0], [1, 1], [4, 2]]


def test_every_part_has_its_numbers_in_the_page_where_it_is_drawn(report, page):
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    figures = {each.get("id"): each for each in root.iter("figure")}
    for found in report.families[0].maps:
        figure = figures[re.sub(r"\W+", "_", found.primary.what)]
        told: dict[str, set[str]] = {}
        for group in figure.iter(f"{SVG}g"):
            if group.get("data-mark"):
                told.setdefault(group.get("data-mark"), set()).add(group[0].text)
        rows = part_rows(found.primary, most=None)
        assert told.keys() == {f"mark-{at}" for at in range(len(rows))}  # also MKR, of no place
        for at, row in enumerate(rows):
            (words,) = told[f"mark-{at}"]  # the same in every view
            assert words.startswith(row["part"])
            for column in ("effect", "95 % interval", "Recall@10 so", "p", "Holm", "FDR", "Max"):
                assert row[column] in words
            is_shown = words.endswith("\nshown to carry the score")
            assert is_shown == (row["shown"] == "yes")
    electrodes = {
        group[0].text for group in figures["electrode_alone"].iter(f"{SVG}g") if len(group)
    }
    (second,) = [words for words in electrodes if words and words.startswith("A2")]
    assert second.splitlines()[:2] == ['A2, a "long" <name>', "MNI152 (-45.0, -18.0, 6.0) mm"]


def test_maps_of_an_instant_are_drawn(report):
    axes = replace(AXES, times_s=np.array([0.2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in effects(axes):
            if found.what == "time window":
                figure = time_figure(found, axes, report.durations)
                assert figure.axes[0].get_xlim() == pytest.approx((0.15, 0.25))
            if found.what == "time x frequency":
                assert figure_bytes(time_frequency_figure(found, axes), "png")


def test_the_share_still_spoken_falls_from_the_onset_on():
    spoken = Durations(ends_s=np.array([1.0, 2.0])).spoken(np.array([-0.1, 0.0, 1.5, 2.0]))
    assert spoken.tolist() == [0.0, 1.0, 0.5, 0.0]
