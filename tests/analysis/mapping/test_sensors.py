from __future__ import annotations

import numpy as np
import pytest
from mne.channels import read_layout

from analysis.mapping.sensors import Sensors
from ssense.data.synthetic.things import EEG_CHANNELS, MEG_CHANNELS


def test_channels_of_the_10_20_system_are_where_a_reader_expects_them():
    names = ("CZ", "oz", "T7", "T8", "Fp1", "Fp2", "P7", "P8")  # in any case of letters
    sensors = Sensors.of(names)
    assert sensors.layout == "extended 10-20 system (MNE)"
    place = dict(zip(names, sensors.xy, strict=True))
    assert np.linalg.norm(place["CZ"]) < 0.1  # in the middle
    assert place["T7"] == pytest.approx([-1, 0], abs=0.05)  # left, on the outline
    assert place["T8"] == pytest.approx([1, 0], abs=0.05)
    assert place["oz"][1] < -0.8 < 0.8 < place["Fp1"][1]  # nose up
    for left, right in (("Fp1", "Fp2"), ("P7", "P8")):
        assert place[left] == pytest.approx(place[right] * [-1, 1], abs=0.08)
    assert Sensors.of(EEG_CHANNELS).located.all()
    assert Sensors.of(names).of_names(["T8", "CZ"]).tolist() == [
        place["T8"].tolist(),
        place["CZ"].tolist(),
    ]


def test_channels_of_ctf_are_known_whatever_number_of_a_system_follows():
    known = [name.partition("-")[0] for name in read_layout("CTF-275").names][:271]
    sensors = Sensors.of([f"{name}-1609" for name in known])
    assert sensors.layout == "layout CTF-275 (MNE)"
    assert sensors.located.all()
    assert np.linalg.norm(sensors.xy, axis=1).max() == pytest.approx(1)
    place = dict(zip(known, sensors.xy, strict=True))
    assert place["MLT14"][0] < 0 < place["MRT14"][0]
    assert place["MLO11"][1] < place["MLF11"][1]
    assert Sensors.of(known).xy == pytest.approx(sensors.xy)


def test_channels_of_other_names_are_nowhere_and_those_among_others_are_told():
    assert not Sensors.of(MEG_CHANNELS).located.any()
    assert Sensors.of(["channel 1"]).layout == ""
    some = Sensors.of(["Cz", "my own", "Pz"])
    assert some.located.tolist() == [True, False, True]
