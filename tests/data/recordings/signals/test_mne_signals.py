"""What MNE makes of a file: rates that differ within it, gaps, names and units that mislead."""

from __future__ import annotations

import re

import edfio
import mne
import numpy as np
import pytest

from ssense import Recording, UserError
from ssense.data.recordings.readers.mne_file import open_file
from ssense.data.recordings.signals import mne_signals
from ssense.data.recordings.tables.table_spec import TableSpec

SAID = "onset,duration,text\n1.0,1.0,first things first\n4.0,1.5,and then the rest\n"
SPOKEN = {"onset": [1.0, 4.0], "duration": [1.0, 1.5], "text": ["first things", "then the rest"]}
SHAFT = ["LA1", "LA2", "LA3"]


def slow_waves(n: int, rate_hz: float, length_s: float) -> np.ndarray:
    """Microvolts `[n, samples]` that no resampling changes: whole periods, far below the rate."""
    times_s = np.arange(int(length_s * rate_hz)) / rate_hz
    return np.stack([100 * np.sin(2 * np.pi * (i + 1) * times_s) for i in range(n)])


def write_edf(folder, names, rates, *, units=None, length_s=20, kind=edfio.Edf, suffix="edf"):
    """An EDF file of one wave a channel, and a table of sentences beside it."""
    of_kind = {edfio.Edf: edfio.EdfSignal, edfio.Bdf: edfio.BdfSignal}[kind]
    waves = {rate: slow_waves(len(names), rate, length_s) for rate in set(rates)}
    signals = [
        of_kind(waves[rate][i], rate, label=name, physical_dimension=unit)
        for i, (name, rate, unit) in enumerate(
            zip(names, rates, units or ["uV"] * len(names), strict=True)
        )
    ]
    kind(signals).write(folder / f"night.{suffix}")
    (folder / "said.csv").write_text(SAID)
    return folder / f"night.{suffix}"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A function that opens the recording in the folder, read in many blocks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mne_signals, "BLOCK_BYTES", 50_000)
    return lambda path: open_file(path, tmp_path / "said.csv", TableSpec())


def check_samples(recording, electrode, number, rate_hz):
    """To the step of a 16-bit converter."""
    (found,) = recording.read_channel(electrode, [(0, recording.n_samples)])
    expected = slow_waves(number + 1, rate_hz, len(found) / rate_hz)[number]
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize(("kind", "suffix"), [(edfio.Edf, "edf"), (edfio.Bdf, "bdf")])
def test_inputs_of_another_rate_are_not_read(tmp_path, opened, kind, suffix):
    path = write_edf(
        tmp_path,
        [*SHAFT, "AUDIO", "RESP"],
        [500.0, 500.0, 500.0, 2000.0, 25.0],
        kind=kind,
        suffix=suffix,
    )
    recording = opened(path)
    assert recording.sampling_rate_hz == 500
    assert recording.electrodes == tuple(SHAFT)
    for number, name in enumerate(SHAFT):
        check_samples(recording, name, number, 500)
    said = "AUDIO (2000 Hz), RESP (25 Hz) are not read: the electrodes have another rate"
    assert said in recording.understood
    assert not recording.doubts


def test_electrodes_of_two_rates_are_resampled_as_a_whole(tmp_path, opened):
    recording = opened(write_edf(tmp_path, [*SHAFT, "M1"], [500.0, 500.0, 500.0, 1000.0]))
    assert recording.sampling_rate_hz == 1000
    for number, name in enumerate([*SHAFT, "M1"]):
        check_samples(recording, name, number, 1000)
    (doubt,) = recording.doubts
    assert "LA1 (500 Hz), LA2 (500 Hz), LA3 (500 Hz) to the 1000 Hz" in doubt


def test_what_mne_holds_must_not_be_resampled_piece_by_piece(tmp_path):
    path = write_edf(tmp_path, [*SHAFT, "M1"], [500.0, 500.0, 500.0, 1000.0], length_s=10)
    raw = mne.io.read_raw(path, verbose="error")
    with pytest.raises(UserError, match=r"500, 1000 samples a second.*preload=True"):
        Recording.from_mne(raw, SPOKEN)
    slow = Recording.from_mne(mne.io.read_raw(path, exclude=["M1"], verbose="error"), SPOKEN)
    check_samples(slow, "LA2", 1, 500)
    check_samples(Recording.from_mne(raw.load_data(), SPOKEN), "LA2", 1, 1000)


def discontinuous(path, starts_s):
    """Make an EDF+D of a file with annotations: records start where they are told to."""
    content = path.read_bytes()
    header = 256 * (1 + int(content[252:256]))
    starts = iter(starts_s)
    records = re.sub(rb"\+\d\x14\x14", lambda _: b"+%d\x14\x14" % next(starts), content[header:])
    kind = b"EDF+D" if path.suffix == ".edf" else b"BDF+D"
    path.write_bytes(content[:192] + kind + content[197:header] + records)


@pytest.mark.parametrize(("kind", "suffix"), [(edfio.Edf, "edf"), (edfio.Bdf, "bdf")])
def test_a_file_with_gaps_is_refused_and_one_without_is_not(tmp_path, opened, kind, suffix):
    signals = {edfio.Edf: edfio.EdfSignal, edfio.Bdf: edfio.BdfSignal}[kind]
    wave = slow_waves(1, 250, 6)[0]
    file = kind(
        [signals(wave, 250, label=name, physical_dimension="uV") for name in SHAFT],
        data_record_duration=1,
        annotations=[edfio.EdfAnnotation(1, 0, "x")],
    )
    path = tmp_path / f"night.{suffix}"
    (tmp_path / "said.csv").write_text(SAID)
    file.write(path)
    discontinuous(path, range(6))
    assert opened(path).n_samples == 1500
    file.write(path)
    discontinuous(path, [0, 1, 2, 7, 8, 9])
    with pytest.raises(UserError, match=r"has gaps.*record 4 starts at 7 s.*ends at 3 s") as error:
        opened(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="has gaps"):
        Recording.from_mne(mne.io.read_raw(path, verbose="error"), SPOKEN)


def test_two_electrodes_of_one_name_are_no_shaft(tmp_path, opened):
    path = write_edf(tmp_path, ["LA1", "LA1", "LA2", "EMPTY", "EMPTY"], [250.0] * 5)
    with pytest.raises(UserError, match=r"night.edf has LA1 more than once. Give every channel"):
        opened(path)
    unused = opened(write_edf(tmp_path, [*SHAFT, "EMPTY", "EMPTY"], [250.0] * 5))
    assert unused.electrodes == tuple(SHAFT)


def test_a_file_that_ends_early_and_stretches_that_are_bad_are_told(tmp_path, opened):
    path = write_edf(tmp_path, SHAFT, [250.0] * 3)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "records from the header does not match the file size" in " ".join(opened(path).doubts)
    raw = mne.io.RawArray(
        1e-4 * np.ones((3, 2500)), mne.create_info(SHAFT, 250, "seeg"), verbose="error"
    )
    raw.set_annotations(mne.Annotations([1, 2, 5], [0.5, 1, 1], ["BAD_x", "bad y", "fine"]))
    raw.save(tmp_path / "night_raw.fif", verbose="error")
    for recording in (opened(tmp_path / "night_raw.fif"), Recording.from_mne(raw, SPOKEN)):
        (doubt,) = recording.doubts
        assert "2 stretches are annotated as bad (BAD_x, bad y; 1.5 s in all)" in doubt


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (["uV", "mV", "V", "degC"], ""),
        (["", "uV", "uV", "uV"], "gives no unit as the unit of LA1, none of µV, mV and V"),
        (["uv", "uv", "uV", "uV"], "gives uv as the unit of LA1, LA2, none of µV, mV and V"),
    ],
)
def test_units_that_mne_takes_for_volts_are_told(tmp_path, opened, units, said):
    doubts = opened(write_edf(tmp_path, [*SHAFT, "TEMP"], [250.0] * 4, units=units)).doubts
    assert len(doubts) == bool(said)
    assert said in " ".join(doubts)


def test_whatever_becomes_of_mne_s_object_the_recording_stays():
    samples = 1e-6 * slow_waves(3, 250, 10)
    raw = mne.io.RawArray(samples, mne.create_info(SHAFT, 250, "seeg"), verbose="error")
    recording = Recording.from_mne(raw, SPOKEN)
    raw.crop(2.3, 8)
    raw.filter(None, 1.5, verbose="error")
    check_samples(recording, "LA2", 1, 250)
    with pytest.raises(UserError, match=r"`raw` is 'night.fif', a str. Give what mne.io.read_raw"):
        Recording.from_mne("night.fif", SPOKEN)
