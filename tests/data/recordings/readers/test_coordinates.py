from __future__ import annotations

import numpy as np
import pytest

from ssense.data.recordings.readers.coordinates import read_coordinates, read_regions
from ssense.errors import UserError
from ssense.signal.contacts import Contact

HEADER = "ID,Z,X,Y,Hemisphere,Subject,Electrode,Region"


def test_coordinates_are_read_by_subject_and_by_axis(tmp_path):
    path = tmp_path / "coordinates.csv"
    rows = ["0,3,1,2,0,sub_9,A1,G", "1,6,4,5,0,sub_9,A\u20192*,G", "2,0,0,0,0,sub_2,A3,G"]
    rows += ["3,,4,5,0,sub_9,A4,G", "4,6,inf,5,0,sub_9,A5,G", "5,6,4,5,0,sub_9,none,G"]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    found = read_coordinates(path, "sub_9")
    assert found.keys() == {Contact("A", 1), Contact("A'", 2)}
    np.testing.assert_array_equal(found[Contact("A", 1)], [1, 2, 3])


@pytest.mark.parametrize("text", [None, "x,y\n1,2\n"])
def test_without_them_nothing_is_known(tmp_path, text):
    path = tmp_path / "coordinates.csv"
    if text:
        path.write_text(text)
    assert read_coordinates(path, "sub_9") == {}


def test_a_coordinate_that_is_no_number_is_told(tmp_path):
    path = tmp_path / "coordinates.csv"
    path.write_text(f"{HEADER}\n0,3,left,2,0,sub_9,A1,G\n")
    with pytest.raises(UserError, match=r"coordinates\.csv is not the table expected.*left"):
        read_coordinates(path, "sub_9")


def test_regions_are_those_of_the_table_of_coordinates_or_of_voxels(tmp_path):
    folder = tmp_path / "localization"
    (folder / "sub_9").mkdir(parents=True)
    assert read_regions(tmp_path, "sub_9") == {}
    voxels = "Electrode,L,I,P,DesikanKilliany\nA1,1,2,3,ctx-lh-insula\nA*2,1,2,3,Unknown\n"
    (folder / "sub_9" / "depth-wm.csv").write_text(voxels)
    coordinates = folder / "elec_coords_full.csv"
    coordinates.write_text(f"{HEADER}\n0,3,1,2,0,sub_9,A1,\n1,3,1,2,0,sub_2,A2,STG\n")
    assert read_regions(tmp_path, "sub_9") == {Contact("A", 1): "ctx-lh-insula"}
    coordinates.write_text(f"{HEADER}\n0,3,1,2,0,sub_9,A#1, STG \n1,,,,0,sub_9,A3,MTG\n")
    assert read_regions(tmp_path, "sub_9") == {Contact("A", 1): "STG", Contact("A", 3): "MTG"}
