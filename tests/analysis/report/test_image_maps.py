from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.mapping.checks import Checked
from analysis.mapping.effects import Resampling, effect_maps
from analysis.mapping.family_maps import CheckedMap, FamilyMaps
from analysis.mapping.parts import Axes, channel_parts, window_parts
from analysis.mapping.places import Places
from analysis.mapping.seed_map import SeedMap
from analysis.mapping.sensors import Sensors
from analysis.report.figures import figure_bytes
from analysis.report.image_maps import READING, ImageMapReport, channel_notes
from analysis.report.maps import part_rows
from analysis.report.page import html_page

EEG = ("Oz", "O1", "O2", "Pz", "Cz", "my own")
SVG = "{http://www.w3.org/2000/svg}"


def report(channels: tuple[str, ...]) -> ImageMapReport:
    """Maps in which the second part carries a half of the score."""
    axes = Axes(electrodes=channels, rows=(), times_s=np.arange(20) / 20)
    parts = [*channel_parts(channels), *window_parts(axes, 4)]
    occluded = np.ones((len(parts), 40))
    carrying = [at for at, part in enumerate(parts) if part.name == channels[-1]]
    occluded[carrying, ::2] = 40
    found = [
        SeedMap(
            seed=seed,
            parts=parts,
            intact=np.ones_like(occluded),
            occluded=occluded,
            permuted=np.random.default_rng(seed).normal(0, 0.01, (100, len(parts))),
            permuted_metric="recall@1",
        )
        for seed in range(2)
    ]
    passed = Checked(
        check="untrained encoder", correlation=0.1, pvalue=0.4, largest=0.0, contradicts=False
    )
    maps = [
        CheckedMap(primary=each, others=[], untrained=each, checks=[passed])
        for each in effect_maps(found, "recall@1", Resampling(n_train=80, n_test=40, blocks=0))
    ]
    family = FamilyMaps(
        family="infonce", configuration={}, seeds=range(2), intact=np.ones(2), maps=maps
    )
    return ImageMapReport(
        title="Maps",
        caption="Mapped.",
        families=[family],
        axes=axes,
        places=Places.unknown(channels),
        durations=None,
        notes=channel_notes(Sensors.of(channels)),
        sensors=Sensors.of(channels),
    )


@pytest.fixture(scope="module")
def eeg() -> ImageMapReport:
    return report(EEG)


def marks_of(figure: Figure) -> dict[str, tuple[float, float]]:
    return {
        str(each.get_gid()): tuple(each.get_offsets()[0])
        for axis in figure.axes
        for each in axis.collections
        if str(each.get_gid()).startswith("mark-")
    }


def test_channels_are_drawn_on_a_head_between_which_effects_are_interpolated(eeg):
    picture = eeg.pictures()["channel_left_out"]
    marks = marks_of(picture.figure)
    assert marks.keys() == {f"mark-{at}" for at in range(5)}  # "my own" is nowhere
    for at in range(5):
        assert marks[f"mark-{at}"] == pytest.approx(eeg.sensors.xy[at])
    axis = picture.figure.axes[0]
    assert axis.images  # what is between the channels
    assert figure_bytes(picture.figure, "png").startswith(b"\x89PNG")
    assert "seen from above, nose up, by the extended 10-20 system (MNE)" in picture.caption
    # The page has what lies nowhere too, by number.
    head, beside = picture.views
    assert marks_of(head) == marks
    assert marks_of(beside).keys() == {"mark-5"}
    assert eeg.notes == ["Channels of no known place on a head: my own."]


@pytest.mark.parametrize("channels", [EEG, ("Cz",), ("Cz", "Oz"), ("channel 1", "channel 40")])
def test_every_channel_has_its_numbers_in_the_page(channels):
    made = report(channels)
    page = html_page("T", made.sections(made.pictures()))
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    for found in made.families[0].maps:
        (figure,) = [
            each
            for each in root.iter("figure")
            if each.get("id") == found.primary.what.replace(" ", "_")
        ]
        told = {
            group.get("data-mark"): group[0].text
            for group in figure.iter(f"{SVG}g")
            if group.get("data-mark")
        }
        rows = part_rows(found.primary, most=None)
        assert len(told) == len(rows)
        for at, row in enumerate(rows):
            words = told[f"mark-{at}"]
            assert words.startswith(row["part"] + "\n")
            assert row["effect"] in words
            assert row["95 % interval"] in words
    assert "sentence's onset" not in page
    assert "image's onset" in page
    assert READING[1] in page


def test_channels_of_unknown_names_are_drawn_by_number_and_said_to_be():
    made = report(("channel 1", "channel 2", "channel 40"))
    picture = made.pictures()["channel_alone"]
    assert marks_of(picture.figure) == {"mark-0": (1, 0), "mark-1": (2, 0), "mark-2": (8, 1)}
    assert not picture.views
    (note,) = made.notes
    assert "The names of the 3 channels are in neither the extended 10-20 system nor" in note


def test_without_a_known_place_no_channel_is_on_a_head(eeg):
    nowhere = replace(eeg, sensors=Sensors(channels=EEG, xy=np.full((6, 2), np.nan)))
    assert "by the numbers in their names" in nowhere.pictures()["channel_alone"].caption
