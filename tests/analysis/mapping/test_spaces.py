from __future__ import annotations

import numpy as np
import pytest

from analysis.mapping.spaces import check_mni, in_mni152, mni_space, read_contacts
from ssense.errors import UserError


@pytest.mark.parametrize(
    ("named", "space"),
    [
        ("MNI152NLin2009cAsym", "MNI152"),
        ("MNI152Lin", "MNI152"),
        ("mni-152", "MNI152"),
        ("ICBM152", "MNI152"),
        ("tpl-MNI152NLin2009cAsym", "MNI152"),
        ("tpl-fsaverage", "MNI305"),
        ("MNI305", "MNI305"),
        ("fsaverage", "MNI305"),
        ("fsaverage6", "MNI305"),
        ("fsaverageSym", "MNI305"),
        *((named, None) for named in ("", "ACPC", "Other", "MNI", "mni_tal", "Talairach", "fsLR")),
    ],
)
def test_spaces_of_mni_are_told_apart(named, space):
    assert mni_space(named) == space


def test_mni305_is_converted_as_published_tables_have_it():
    # Two contacts of the Brain Treebank's sub_9 in either space, by the neuroprobe package.
    mni305 = np.array(
        [
            [-57.2012202859489, -8.262077057417395, 20.18161146479342],
            [-45.90844726697119, -9.765802337947585, 17.09801808374708],
            [np.nan, 0.0, 0.0],
        ]
    )
    mni152 = np.array(
        [
            [-56.68560771093452, -7.603486610459427, 22.127537971896835],
            [-45.46436066347279, -8.93629013355051, 18.92006560751775],
        ]
    )
    found = in_mni152(mni305, "MNI305")
    np.testing.assert_allclose(found[:2], mni152, atol=1e-9)
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(in_mni152(mni152, "MNI152"), mni152)
    assert np.abs(found[:2] - mni305[:2]).max() > 1.5  # mm, which a picture shows


def test_coordinates_of_other_units_or_spaces_are_refused():
    places = np.array([[-50.0, 20.0, 10.0], [np.nan] * 3])
    check_mni(places)
    check_mni(np.full((2, 3), np.nan))
    with pytest.raises(UserError, match=r"no coordinate exceeds 0\.05, which are metres"):
        check_mni(places / 1000)
    with pytest.raises(UserError, match=r"no coordinate exceeds 10\.5, which are centimetres"):
        check_mni(np.array([[-50.0, 20.0, 10.0], [5.0, -105.0, 3.0]]) / 10)
    check_mni(np.array([[-5.0, 2.0, 1.0]]))  # one may lie near the origin
    check_mni(np.array([[12.0, -13.0, -6.0], [12.5, -12.0, -4.0]]))  # of the subthalamic nucleus
    with pytest.raises(UserError, match=r"1 electrode lies outside of the head .* 20, 180\) mm"):
        check_mni(np.array([[-50.0, 20.0, 180.0], [0.0, 0.0, 0.0]]))


def test_a_table_of_contacts_says_where_they_lie_and_in_which_space(tmp_path):
    path = tmp_path / "contacts.csv"
    path.write_text("Name,X,Y,Z,Space\nF1*a1,-50,1,2,fsaverage\nF1a2,,,,\nF1a3,-40,1,2,\n")
    assert read_contacts(path, "sub-01") == (
        {"F1a1": (-50, 1, 2), "F1a3": (-40, 1, 2)},
        "fsaverage",
    )
    path.write_text("electrode,x,y,z\nA1,1,2,3\n")
    assert read_contacts(path, "sub-01") == ({"A1": (1, 2, 3)}, "")
    # As the neuroprobe package has it: the label is not the name of the shaft.
    path.write_text(
        "electrode_label,name,num,mni305_x,mni305_y,mni305_z,mni152_x,mni152_y,mni152_z\n"
        "F3b6,F3b,6,-57.2,-8.3,20.2,-56.7,-7.6,22.1\nF3b5,F3b,5,,,,,,\n"
    )
    assert read_contacts(path, "sub-01") == ({"F3b6": (-56.7, -7.6, 22.1)}, "mni152")


def test_of_a_table_of_several_subjects_one_is_read(tmp_path):
    path = tmp_path / "contacts.csv"
    path.write_text(
        "Subject,contact,x,y,z,space\nsub-01,A1,1,2,3,MNI152\nsub-02,A1,4,5,6,fsaverage\n"
    )
    assert read_contacts(path, "sub-01") == ({"A1": (1, 2, 3)}, "MNI152")
    assert read_contacts(path, "sub-02") == ({"A1": (4, 5, 6)}, "fsaverage")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("electrode,x,y\nA1,1,2\n", "has no columns electrode, x, y and z; its columns are"),
        ("electrode,x,y,z\nA1,,,\n", "has coordinates of no contact of sub-01"),
        ("subject,electrode,x,y,z\nsub-02,A1,1,2,3\n", "has coordinates of no contact of sub-01"),
        ("electrode,x,y,z\nA1,1,2,3\nA1,1,2,4\n", "has A1 at two places"),
        ("electrode,x,y,z\nA1,left,2,3\n", "x of A1 is left, not a number of mm"),
        ('electrode,x,y,z\nA1,1,"2,5",3\n', "y of A1 is 2,5, not a number of mm"),
        (
            "electrode,x,y,z,space\nA1,1,2,3,MNI152\nA2,1,2,3,fsaverage\n",
            "has coordinates in MNI152 and fsaverage. Keep the rows of one space",
        ),
    ],
)
def test_odd_tables_of_contacts_are_refused_in_a_line(table, said, tmp_path):
    path = tmp_path / "contacts.csv"
    path.write_text(table)
    with pytest.raises(UserError) as refused:
        read_contacts(path, "sub-01")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
