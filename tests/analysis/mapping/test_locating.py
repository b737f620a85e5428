from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.mapping.locating import Sources, locate
from analysis.mapping.spaces import in_mni152
from ssense.data.coordinates import Coordinates
from ssense.data.shards import Manifest
from ssense.errors import UserError
from ssense.signal.referencing import Derivation

NAMES = ("A1-A2", "A3", "B1")
PLACES = ((-50.0, -20.0, 5.0), (-46.0, -21.0, 6.0), None)
RECORDED = Manifest(
    digest="0",
    origin={},
    settings={},
    sources={},
    sampling_rate_hz=100.0,
    electrodes=NAMES,
    dropped={},
    coordinates=Coordinates(contacts="0", places=PLACES),
    derivations=(
        Derivation("A1-A2", "A1", ("A2",)),
        Derivation("A3", "A3"),
        Derivation("B1", "B1"),
    ),
    space="MNI152NLin2009cAsym",
    regions=("STG", "", "insula"),
)


def located(manifest=RECORDED, electrodes=NAMES, **sources):
    return locate(electrodes, manifest, "sub-01", Sources(**sources))


def test_electrodes_lie_where_the_recording_says_in_its_regions():
    places, said = located()
    np.testing.assert_array_equal(places.mm[:2], np.array(PLACES[:2]))
    assert places.without_coordinates == ["B1"]
    assert (places.regions, places.space) == (("STG", "", "insula"), "MNI152NLin2009cAsym")
    assert said == [
        "Without coordinates: B1.",
        "Regions are those of the recording.",
        "Without a region: A3.",
    ]
    some, _ = located(electrodes=("B1", "A1-A2"))
    assert some.regions == ("insula", "STG")
    assert some.located.tolist() == [False, True]


def test_mni305_is_converted_and_said_to_be():
    places, said = located(replace(RECORDED, space="fsaverage"))
    np.testing.assert_allclose(places.mm[:2], in_mni152(np.array(PLACES[:2]), "MNI305"))
    assert said[0] == "Coordinates were converted from MNI305 to MNI152."
    unnamed = replace(RECORDED, space="")
    asked, _ = located(unnamed, space="mni305")
    np.testing.assert_array_equal(asked.mm, places.mm)


def test_names_with_hyphens_are_of_their_contacts(tmp_path):
    contacts, regions = tmp_path / "contacts.csv", tmp_path / "regions.csv"
    contacts.write_text("contact,x,y,z,space\nA-1,-50,0,0,MNI152\nA-2,-40,0,0,MNI152\n")
    regions.write_text("contact,region\nPOL A-1,STG\nA-2,insula\n")
    names = ("A-1-A-2", "A-2")
    manifest = replace(RECORDED, electrodes=names, derivations=())
    places, _ = located(manifest, names, coordinates=str(contacts), regions=str(regions))
    assert places.mm[:, 0].tolist() == [-45, -40]
    assert places.regions == ("STG", "insula")


@pytest.mark.parametrize("space", ["ACPC", "", "Other"])
def test_in_other_spaces_nothing_is_drawn_and_what_to_do_is_said(space):
    places, said = located(replace(RECORDED, space=space))
    assert not places.located.any()
    assert places.region_of  # which needs no coordinates
    assert said[0].startswith(
        f"The coordinates are in {space or 'a space that the recording does'}"
    )
    # What is advised is accepted.
    assert ("--space mni152 or mni305" in said[0]) == (space != "ACPC")
    assert ("Register them to a template first" in said[0]) == (space == "ACPC")


def test_regions_that_divide_nothing_are_told(tmp_path):
    path = tmp_path / "regions.csv"
    path.write_text("electrode,region\nA1,STG\nA3,STG\nB1,STG\n")
    _, said = located(regions=str(path))
    assert said[-1] == "All electrodes are in one region: regions have no map."
    _, said = located(replace(RECORDED, regions=("", "", "")))
    assert said[-1] == "the recording names a region of no electrode: regions have no map."


def test_what_was_asked_for_may_not_contradict_what_is_said():
    for space, asked in (("ACPC", "mni152"), ("fsaverage", "mni152"), ("MNI152Lin", "mni305")):
        with pytest.raises(
            UserError, match=rf"--space {asked}: the recording says .* in {space}\."
        ):
            located(replace(RECORDED, space=space), space=asked)
    places, said = located(space="none")
    assert not places.located.any()
    assert said[0] == "Electrodes are drawn by shaft, as was asked for."


def test_metres_for_millimetres_are_refused():
    metres = tuple(each and tuple(axis / 1000 for axis in each) for each in PLACES)
    manifest = replace(RECORDED, coordinates=Coordinates(contacts="0", places=metres))
    with pytest.raises(UserError, match="which are metres, not the millimetres"):
        located(manifest)


def test_a_table_of_coordinates_places_pairs_midway(tmp_path):
    path = tmp_path / "contacts.csv"
    path.write_text("electrode,x,y,z,space\nA1,-50,0,0,MNI152\nA2,-40,2,4,\nB1,30,0,0,\n")
    places, said = located(replace(RECORDED, coordinates=None), coordinates=str(path))
    np.testing.assert_array_equal(places.mm[[0, 2]], [[-45, 1, 2], [30, 0, 0]])
    assert said[0] == "Without coordinates: A3."
    path.write_text("electrode,x,y,z\nC1,-50,0,0\n")
    with pytest.raises(
        UserError, match=r"of none of the 3 electrodes of the sweep, A1-A2 to B1, but"
    ):
        located(coordinates=str(path))
    with pytest.raises(UserError, match=r"--coordinates nowhere\.csv is no file"):
        located(coordinates="nowhere.csv")


def test_regions_of_a_table_or_an_atlas_stand_in_for_those_of_the_recording(tmp_path):
    path = tmp_path / "regions.csv"
    path.write_text("electrode,region\nA1,frontal\nA3,frontal\n")
    places, said = located(regions=str(path))
    assert places.regions == ("frontal", "frontal", "")
    assert "Regions are those of regions.csv." in said
    by_atlas, said = located(atlas="dosenbach")
    assert all(region.startswith("left ") for region in by_atlas.regions[:2])
    assert by_atlas.regions[2] == ""
    assert "Regions are those of the atlas dosenbach." in said
    with pytest.raises(UserError, match="--atlas dosenbach names regions in MNI152, and no elec"):
        located(replace(RECORDED, space="ACPC"), atlas="dosenbach")


def test_without_any_coordinates_all_are_drawn_by_shaft():
    _, said = located(replace(RECORDED, coordinates=None, regions=()))
    assert said == ["No electrode's coordinates are known: all are drawn by shaft."]


def test_shards_that_note_no_derivations_are_placed_by_their_names(tmp_path):
    path = tmp_path / "contacts.csv"
    path.write_text("electrode,x,y,z\nA1,-50,0,0\nA2,-40,2,4\nA3,30,0,0\n")
    places, _ = located(replace(RECORDED, derivations=()), coordinates=str(path), space="mni152")
    np.testing.assert_array_equal(places.mm[:2], [[-45, 1, 2], [30, 0, 0]])
