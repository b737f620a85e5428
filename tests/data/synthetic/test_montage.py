from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.synthetic.montage import SUB_9_CONTACTS, contact_names, corrupted_list, lay_out
from ssense.signal.contacts import clean_label, laplacian_neighbours

contacts = st.integers(4, 300)


@given(contacts, st.booleans())
def test_labels_are_the_names_once_cleaned(n, quirks):
    channels = lay_out(n, quirks)
    labelled = [channel for channel in channels if channel.kind != "unlabelled"]
    assert [clean_label(channel.label) for channel in labelled] == [c.name for c in labelled]
    assert [c.name for c in labelled if c.kind != "auxiliary"] == contact_names(n)
    assert [c.number for c in labelled if c.kind != "auxiliary"] == list(range(n))
    assert len({channel.name for channel in labelled}) == len(labelled)


@given(contacts)
def test_tidy_channels_are_contacts_and_two_auxiliary_inputs(n):
    channels = lay_out(n, quirks=False)
    assert {channel.kind for channel in channels[:n]} == {"contact"}
    assert [channel.label for channel in channels[n:]] == ["DC4", "DC10"]


@given(contacts)
def test_quirks_put_auxiliary_inputs_between_contacts_and_surplus_datasets_last(n):
    channels = lay_out(n, quirks=True)
    kinds = [channel.kind for channel in channels]
    surplus = kinds.count("unlabelled")
    labels = [channel.label for channel in channels[: len(channels) - surplus]]
    assert set(kinds[-surplus:]) == {"unlabelled"}
    assert surplus == max(1, len(labels) // 16)
    assert (kinds.count("flat"), kinds.count("auxiliary")) == (1, 3)
    assert labels.index("TRIG1") == labels.index("DC4") + 1 == n // 2 + 1
    assert labels[-1] == "DC10"
    assert all(channel.corrupted for channel in channels if channel.kind == "flat")


def test_quirky_labels_have_every_mark_and_not_only_at_the_end():
    labels = [channel.label for channel in lay_out(8, quirks=True)]
    assert labels[:4] == ["F1_a1", "F1a2", "F1a3*", "F1*a4"]
    assert "F1b1#" in labels


@pytest.mark.parametrize("quirks", [False, True])
def test_106_contacts_are_those_of_sub_9(quirks):
    """The counts of the published recording: 12 shafts, 99 good contacts, 72 with a Laplacian."""
    channels = lay_out(SUB_9_CONTACTS, quirks)
    names = [channel.name for channel in channels if channel.kind in ("contact", "flat")]
    good = [c.name for c in channels if c.kind == "contact" and not c.corrupted]
    assert len({name.rstrip("0123456789") for name in names}) == 12
    assert (len(names), len(good)) == (106, 99)
    assert len(laplacian_neighbours(names, good)) == 72


def test_the_corrupted_list_has_marks():
    assert corrupted_list(lay_out(5, quirks=False)) == ["DC4*", "DC10#"]
    assert corrupted_list(lay_out(5, quirks=True)) == ["DC4*", "TRIG1#", "F1a5*", "DC10#"]
