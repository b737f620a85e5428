"""NWB files as pynwb, the format's own library, writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import h5py
import numpy as np
import pynwb
import pytest
from pynwb.ecephys import ElectricalSeries

from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.errors import UserError

RATE_HZ, STEP_V = 1525.879, 2.5e-7
NAMES = ["LA1", "LA2", "LA3", "LA4", "EKG1"]
SAID = "onset,duration,text\n1.0,1.0,first things first\n4.0,1.5,and then the rest\n"


@pytest.fixture(scope="module")
def counts():
    """Steps of a converter, int16 [time, channels]."""
    generator = np.random.default_rng(0)
    return generator.integers(-2000, 2000, (int(8 * RATE_HZ), len(NAMES)), dtype=np.int16)


def write(path, counts, *, named=True, scale=1.0, **rate):
    file = pynwb.NWBFile(
        session_description="made up",
        identifier="made up",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
        subject=pynwb.file.Subject(subject_id="P07", species="Homo sapiens", age="P30Y"),
    )
    group = file.create_electrode_group("LA", "d", "left amygdala", file.create_device("d"))
    if named:
        file.add_electrode_column("label", "name of the channel")
    for number, name in enumerate(NAMES):
        label = {"label": name} if named else {}
        place = {axis: scale * (10.0 * number + i) for i, axis in enumerate("xyz")}
        file.add_electrode(location="amygdala", group=group, **label, **place)
    rows = file.create_electrode_table_region([0, 1, 2, 4], "all but one")
    series = ElectricalSeries(
        "ieeg", counts[:, :4], rows, conversion=STEP_V, **(rate or {"rate": RATE_HZ})
    )
    file.add_acquisition(series)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, counts):
    made = tmp_path_factory.mktemp("nwb")
    write(made / "night.nwb", counts)
    (made / "said.csv").write_text(SAID)
    return made


def opened(folder, name="night.nwb", **given):
    given = {"sentences": str(folder / "said.csv")} | given
    return open_source(RecordingSource(place=str(folder / name), **given))


def test_samples_channels_places_and_subject_are_read(folder, counts):
    recording = opened(folder)
    assert recording.subject == "P07"
    assert recording.sampling_rate_hz == pytest.approx(RATE_HZ)
    assert recording.electrodes == ("LA1", "LA2", "LA3")  # the fourth is a heart
    assert [channel.name for channel in recording.channels] == ["LA1", "LA2", "LA3", "EKG1"]
    assert recording.coordinates["LA2"] == (10.0, 11.0, 12.0)
    assert recording.transcript.sentences == {0: "first things first", 1: "and then the rest"}
    for electrode, number in recording.channel_of.items():
        (found,) = recording.read_channel(electrode, [(3000, 3300)])
        np.testing.assert_allclose(found, 0.25 * counts[3000:3300, number], rtol=1e-6)


def test_micrometres_are_told_by_their_size(folder, counts):
    write(folder / "far.nwb", counts, scale=1000.0)
    recording = opened(folder, "far.nwb")
    assert recording.coordinates["LA2"] == (10.0, 11.0, 12.0)
    assert any("taken for µm by their size" in text for text in recording.understood)


def test_without_a_column_of_names_electrodes_are_numbers(folder, counts):
    write(folder / "bare.nwb", counts, named=False)
    assert opened(folder, "bare.nwb").electrodes == ("E0", "E1", "E2", "E4")


def test_a_rate_may_come_as_time_stamps(folder, counts):
    times_s = 5 + np.arange(len(counts)) / RATE_HZ
    write(folder / "stamps.nwb", counts, timestamps=times_s)
    assert opened(folder, "stamps.nwb").sampling_rate_hz == pytest.approx(RATE_HZ)
    times_s[2000:] += 3
    write(folder / "gap.nwb", counts, timestamps=times_s)
    with pytest.raises(UserError, match=r"leave gaps, the first after 6.31"):
        opened(folder, "gap.nwb")


def test_what_is_no_such_file_is_one_line(folder, tmp_path):
    (tmp_path / "said.csv").write_text(SAID)
    (tmp_path / "text.nwb").write_text("hello")
    with h5py.File(tmp_path / "empty.nwb", "w") as file:
        file.create_group("acquisition/x").attrs["neurodata_type"] = "TimeSeries"
    for name, message in (
        ("text.nwb", "cannot read .*text.nwb as HDF5"),
        ("empty.nwb", r"no ElectricalSeries among what was acquired: x \(TimeSeries\)"),
    ):
        with pytest.raises(UserError, match=message) as error:
            opened(tmp_path, name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="says nothing of what was said"):
        opened(folder, sentences="")
