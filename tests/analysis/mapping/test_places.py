from __future__ import annotations

import numpy as np

from analysis.mapping.places import Places

NAMES = ("A1", "A2", "B1")


def test_places_say_whose_coordinates_and_regions_are_missing():
    mm = np.array([[-50.0, -20.0, 5.0], [np.nan, 1.0, 2.0], [40.0, 10.0, 20.0]])
    places = Places(electrodes=NAMES, mm=mm, regions=("STG", "", "insula"), space="MNI152")
    assert places.located.tolist() == [True, False, True]
    assert places.without_coordinates == ["A2"]
    assert places.region_of == {"A1": "STG", "B1": "insula"}
    assert places.without_region == ["A2"]
    some = places.of(["B1", "A1"])
    assert (some.electrodes, some.regions, some.space) == (
        ("B1", "A1"),
        ("insula", "STG"),
        "MNI152",
    )
    np.testing.assert_array_equal(some.mm, mm[[2, 0]])


def test_of_unknown_places_all_are_missing():
    places = Places.unknown(NAMES)
    assert places.without_coordinates == places.without_region == list(NAMES)
    assert (places.mm.shape, places.space) == ((3, 3), "")
