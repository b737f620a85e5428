"""NWB files as pynwb, the format's own library, writes them."""

from __future__ import annotations

import shutil
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


def write(path, counts, *, named=True, scale=1.0, container=(), **rate):
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
    if container == ():
        file.add_acquisition(series)
    else:
        module = file.create_processing_module("ecephys", "local field potentials")
        module.add(container(electrical_series=series) if container else series)
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
    assert recording.regions == dict.fromkeys(("LA1", "LA2", "LA3"), "amygdala")
    assert recording.transcript.sentences == {0: "first things first", 1: "and then the rest"}
    for electrode, number in recording.channel_of.items():
        (found,) = recording.read_channel(electrode, [(3000, 3300)])
        np.testing.assert_allclose(found, 0.25 * counts[3000:3300, number], rtol=1e-6)


@pytest.mark.parametrize(("unit", "scale"), [("µm", 1000.0), ("mm", 1.0), ("m", 0.001)])
def test_the_unit_of_places_is_told_by_their_size(folder, counts, unit, scale):
    write(folder / "far.nwb", counts, scale=scale)
    recording = opened(folder, "far.nwb")
    assert recording.coordinates["LA2"] == pytest.approx((10.0, 11.0, 12.0))
    assert any(f"taken for {unit} by their size" in text for text in recording.understood)


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


@pytest.mark.parametrize("moved", ["acquisition/ieeg/data", "acquisition/ieeg", "TABLE/label"])
def test_what_lies_in_another_file_is_refused(folder, tmp_path, moved):
    """Its changes would go unnoticed: neither digest nor copy would change with it."""
    moved = moved.replace("TABLE", "general/extracellular_ephys/electrodes")
    shutil.copy(folder / "night.nwb", tmp_path / "other.nwb")
    shutil.copy(folder / "night.nwb", tmp_path / "night.nwb")
    with h5py.File(tmp_path / "night.nwb", "r+") as file:
        del file[moved]
        file[moved] = h5py.ExternalLink("other.nwb", moved)
    (tmp_path / "said.csv").write_text(SAID)
    with pytest.raises(UserError, match=r"lies in another file, other\.nwb, whose changes"):
        opened(tmp_path)


@pytest.mark.parametrize("container", [pynwb.ecephys.LFP, pynwb.ecephys.FilteredEphys, None])
def test_a_series_of_a_processing_module_is_read_if_none_was_acquired(
    folder, tmp_path, counts, container
):
    """Where most NWB files keep the local field potential."""
    write(tmp_path / "night.nwb", counts, container=container)
    (tmp_path / "said.csv").write_text(SAID)
    recording, acquired = opened(tmp_path), opened(folder)
    assert recording.electrodes == acquired.electrodes
    assert not recording.doubts
    inner = f"{container.__name__}/" if container else ""
    assert f"night.nwb, processing/ecephys/{inner}ieeg" in recording.understood[0]
    (found,), (expected,) = (x.read_channel("LA2", [(100, 900)]) for x in (recording, acquired))
    np.testing.assert_array_equal(found, expected)
    with h5py.File(tmp_path / "night.nwb", "r+") as file:
        file.copy(f"processing/ecephys/{inner}ieeg", f"processing/ecephys/{inner}micro")
    (said,) = opened(tmp_path).doubts
    assert f"of 2 electrical series ecephys/{inner}ieeg is read, not ecephys/{inner}micro" in said
    with h5py.File(tmp_path / "night.nwb", "r+") as file:
        file.copy(f"processing/ecephys/{inner}ieeg", "acquisition/raw")
    assert "night.nwb, acquisition/raw" in opened(tmp_path).understood[0]


def test_a_late_start_and_a_second_series_are_told(folder, tmp_path, counts):
    write(tmp_path / "LATE.NWB", counts, rate=RATE_HZ, starting_time=12.3)
    with h5py.File(tmp_path / "LATE.NWB", "r+") as file:
        file.copy("acquisition/ieeg", "acquisition/micro")
    (tmp_path / "said.csv").write_text(SAID)
    first, second = opened(tmp_path, "LATE.NWB").doubts
    assert "of 2 electrical series ieeg is read, not micro" in first
    assert "/acquisition/ieeg starts 12.3 s into the session" in second
    assert not opened(folder).doubts


def damaged_region(file):
    file["acquisition/ieeg/electrodes"][0] = 99


def no_data(file):
    del file["acquisition/ieeg/data"]


def blank_label(file):
    file["general/extracellular_ephys/electrodes/label"][1] = " "


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged_region, "4 electrodes for them, of a table of 5"),
        (no_data, "acquisition/ieeg has no data"),
        (blank_label, ""),
    ],
)
def test_what_a_series_lacks_is_said(folder, tmp_path, spoil, message):
    shutil.copy(folder / "night.nwb", tmp_path / "night.nwb")
    (tmp_path / "said.csv").write_text(SAID)
    with h5py.File(tmp_path / "night.nwb", "r+") as file:
        spoil(file)
    if not message:
        assert opened(tmp_path).electrodes == ("LA1", "E1", "LA3")
        return
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_a_rate_that_is_none_and_a_table_that_is_not_there_name_their_files(folder, tmp_path):
    shutil.copy(folder / "night.nwb", tmp_path / "night.nwb")
    with h5py.File(tmp_path / "night.nwb", "r+") as file:
        file["acquisition/ieeg/starting_time"].attrs["rate"] = 0.0
    (tmp_path / "said.csv").write_text(SAID)
    with pytest.raises(UserError, match=r"night.nwb: a sampling rate of .*0\.0.* is none"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"said2.csv is missing.*Check `sentences`"):
        opened(folder, sentences=str(folder / "said2.csv"))


def test_what_is_no_such_file_is_one_line(folder, tmp_path):
    (tmp_path / "said.csv").write_text(SAID)
    (tmp_path / "text.nwb").write_text("hello")
    with h5py.File(tmp_path / "empty.nwb", "w") as file:
        file.create_group("acquisition/x").attrs["neurodata_type"] = "TimeSeries"
    for name, message in (
        ("text.nwb", "cannot read .*text.nwb as HDF5"),
        (
            "empty.nwb",
            r"no ElectricalSeries in acquisition or processing: acquisition/x \(TimeSeries\)",
        ),
    ):
        with pytest.raises(UserError, match=message) as error:
            opened(tmp_path, name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="says nothing of what was said"):
        opened(folder, sentences="")
