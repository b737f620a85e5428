from __future__ import annotations

import numpy as np
import pytest

from ssense.data.coordinates import contacts_digest, electrode_coordinates
from ssense.signal.referencing import derivations

NAMES = ("A1", "A2", "A3", "B1", "B2")
CONTACTS = {
    "A1": (0.0, 0.0, 0.0),
    "A2": (4.0, 0.0, 2.0),
    "A3": (8.0, 1.0, 2.0),
    "B2": (-9.5, 3.0, 1.0),
}
NOWHERE = (np.nan,) * 3
AT_CONTACTS = [CONTACTS.get(name, NOWHERE) for name in NAMES]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("none", AT_CONTACTS),
        ("average", AT_CONTACTS),
        # Of a shaft of two, the mean that is subtracted has both.
        ("shaft-average", AT_CONTACTS),
        ("laplacian", [CONTACTS["A2"]]),
        ("bipolar", [(2, 0, 1), (6, 0.5, 2), NOWHERE]),
    ],
)
def test_an_electrode_lies_at_its_contact_and_a_pair_midway(reference, expected):
    found = electrode_coordinates(derivations(reference, NAMES, NAMES), CONTACTS)
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, np.array(expected, np.float32))
    assert found.contacts == contacts_digest(CONTACTS)


def test_without_any_there_are_none():
    derived = derivations("none", NAMES, NAMES)
    assert electrode_coordinates(derived, {}) is None
    assert electrode_coordinates(derived, {"C1": (1.0, 2.0, 3.0)}) is None
