from __future__ import annotations

import nibabel
import numpy as np
import pytest

from analysis.mapping.atlas import NEAR_MM, POINT_MM, Points, Volume, open_atlas
from ssense.errors import UserError

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2.0, 0, -20], [0, 0, 2.0, -10], [0, 0, 0, 1]])


@pytest.fixture
def image(tmp_path):
    """Two regions in voxels of 2 mm: number 3 left of x = 0, number 5 to its right, from z = 0."""
    values = np.zeros((20, 20, 10), np.int16)
    values[11:, :, 5:], values[:10, :, 5:] = 3, 5  # the first axis runs to the left
    path = tmp_path / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    return path


def test_places_are_in_the_regions_that_the_voxels_have(image, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("index,name\n3,left area\n5,right area\n")
    places = np.array(
        [
            [-10.0, 0.0, 4.0],
            [10.0, 0.0, 4.0],
            [10.0, 0.0, -2.0],  # 2 mm below the lowest voxel that is in the region
            [10.0, 0.0, -NEAR_MM - 1],
            [300.0, 0.0, 4.0],
            [np.nan, 0.0, 0.0],
        ]
    )
    expected = ("left area", "right area", "right area", "", "", "")
    assert open_atlas(str(image), str(labels)).regions(places) == expected
    assert open_atlas(str(image), None).regions(places[:2]) == ("3", "5")


def test_the_nearest_voxel_is_found_as_by_comparing_all():
    rng = np.random.default_rng(0)
    values = (rng.random((12, 12, 12)) < 0.02) * rng.integers(1, 9, (12, 12, 12))
    affine = np.diag([1.5, 2.0, 2.5, 1.0])
    atlas = Volume(values=values, affine=affine, names={})
    labelled = np.argwhere(values)
    for place in rng.uniform(0, 20, (60, 3)):
        away = np.linalg.norm(labelled * np.diag(affine)[:3] - place, axis=1)
        inside = (np.rint(place / np.diag(affine)[:3]) == labelled).all(axis=1)
        away[inside] = 0
        nearest = labelled[np.argmin(away)]
        expected = str(values[tuple(nearest)]) if away.min() <= NEAR_MM else ""
        assert atlas.regions(place[None]) == (expected,)


def test_the_nearest_centre_names_a_region_up_to_a_distance():
    atlas = Points(mm=np.array([[0.0, 0, 0], [20.0, 0, 0]]), names=("A", "B"))
    far = 20.0 + POINT_MM + 1
    places = np.array([[9.0, 0, 0], [11.0, 0, 0], [far, 0, 0], [np.nan, 0, 0]])
    assert atlas.regions(places) == ("A", "B", "", "")


def test_an_atlas_comes_with_nilearn_and_needs_no_network():
    atlas = open_atlas("dosenbach", None)
    # Centres by Dosenbach et al. (2010): a mid insula, and vmPFC on the right.
    assert atlas.regions(np.array([[-42.0, -3.0, 11.0], [6.0, 64.0, 3.0]])) == (
        "left mid insula",
        "right vmPFC",
    )


def test_odd_atlases_are_refused_in_a_line(image, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("number,what\n3,left\n")
    text = tmp_path / "text.nii.gz"
    text.write_text("no image")
    shares = tmp_path / "shares.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), 0.5), AFFINE), shares)
    for atlas, names, said in (
        ("harvard", None, "is no file, and none of dosenbach, harvard-oxford, aal"),
        (str(text), None, "no NIfTI file"),
        (str(shares), None, "values that are no whole numbers"),
        (str(image), str(labels), "has no columns index and name"),
        (str(image), "nowhere.csv", "--atlas-labels nowhere.csv is no file"),
        ("dosenbach", str(labels), "--atlas-labels is for a file"),
    ):
        with pytest.raises(UserError) as refused:
            open_atlas(atlas, names)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
