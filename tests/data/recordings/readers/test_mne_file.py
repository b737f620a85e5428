"""Single files of the formats that amplifiers write, and a table of sentences."""

from __future__ import annotations

import pickle
import shutil

import mne
import numpy as np
import pytest

from ssense.data.recordings.readers.mne_file import open_file
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError

RATE_HZ = 500.0
# As clinics name channels: with a prefix, a prime, a blank, and a reference behind.
NAMES = ["POL A'1", "POL A'2", "LA 1", "LA 2-Ref", "POL EKG1", "DC10", "EEG MKR1"]
SAID = "onset,duration,text\n1.0,1.0,first things first\n4.0,1.5,and then the rest\n"


@pytest.fixture(scope="module")
def raw():
    info = mne.create_info(NAMES, RATE_HZ, "eeg")
    samples = 5e-5 * np.random.default_rng(0).standard_normal((len(NAMES), int(10 * RATE_HZ)))
    return mne.io.RawArray(samples, info, verbose="error")


@pytest.fixture(scope="module")
def files(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    raw.save(folder / "night_raw.fif", verbose="error")
    for name in ("night.edf", "night.vhdr"):
        mne.export.export_raw(folder / name, raw, verbose="error")
    (folder / "said.csv").write_text(SAID)
    return folder


@pytest.mark.parametrize(
    ("name", "error_uv"), [("night_raw.fif", 1e-4), ("night.edf", 0.02), ("night.vhdr", 1e-2)]
)
def test_every_format_gives_the_same_recording(files, raw, name, error_uv):
    recording = open_file(files / name, files / "said.csv", TableSpec())
    assert recording.sampling_rate_hz == RATE_HZ
    assert len(recording.electrodes) == 4  # neither heart nor inputs nor markers
    assert len(recording.channels) == len(NAMES)
    expected = 1e6 * raw.get_data()
    for electrode, number in recording.channel_of.items():
        early, late = recording.read_channel(electrode, [(0, 100), (2000, 2600)])
        np.testing.assert_allclose(early, expected[number, :100], atol=error_uv)
        np.testing.assert_allclose(late, expected[number, 2000:2600], atol=error_uv)
    assert recording.transcript.sentences == {0: "first things first", 1: "and then the rest"}


def test_signals_are_read_from_a_copy_channel_by_channel(files, tmp_path, monkeypatch):
    """The copy outlives what reads it, and a worker that is sent the recording finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recording = open_file(files / "night.edf", files / "said.csv", TableSpec())
    (before,) = recording.read_channel(recording.electrodes[0], [(0, 50)])
    (copy,) = (tmp_path / "ssense/signals").glob("*.npy")
    written = copy.stat()
    sent = pickle.loads(pickle.dumps(recording))
    (after,) = sent.read_channel(recording.electrodes[0], [(0, 50)])
    np.testing.assert_array_equal(after, before)
    assert copy.stat() == written
    assert len(pickle.dumps(recording)) < 20_000


def test_another_table_is_another_recording(files, tmp_path):
    first = open_file(files / "night.edf", files / "said.csv", TableSpec())
    shutil.copytree(files, tmp_path / "there")
    there = tmp_path / "there"
    again = open_file(there / "night.edf", there / "said.csv", TableSpec(), subject=first.subject)
    assert again.digest == first.digest
    (there / "said.csv").write_text(SAID.replace("first things", "last things"))
    other = open_file(there / "night.edf", there / "said.csv", TableSpec(), subject=first.subject)
    assert other.digest != first.digest
    of_samples = TableSpec(time_unit="seconds", gap_s=1)
    assert open_file(files / "night.edf", files / "said.csv", of_samples).digest != first.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "MNE can't read"),
        (b"0       " + b" " * 400, "MNE can't read"),
        (b"\xff" * 5000, "MNE can't read"),
    ],
)
def test_a_file_that_mne_refuses_is_one_line(tmp_path, content, message):
    (tmp_path / "a.edf").write_bytes(content)
    (tmp_path / "said.csv").write_text(SAID)
    with pytest.raises(UserError, match=message) as error:
        open_file(tmp_path / "a.edf", tmp_path / "said.csv", TableSpec())
    assert "\n" not in str(error.value)


def test_a_format_that_nobody_knows_and_a_table_that_is_not_there(files, tmp_path):
    (tmp_path / "a.xyz").write_text("hello")
    with pytest.raises(UserError, match="MNE can't read"):
        open_file(tmp_path / "a.xyz", files / "said.csv", TableSpec())
    with pytest.raises(UserError, match=r"said.csv is missing.*Check `sentences`"):
        open_file(files / "night.edf", tmp_path / "said.csv", TableSpec())


@pytest.mark.parametrize("suffix", [".eeg", ".vmrk"])
@pytest.mark.parametrize("header", ["night", "copy"])
def test_of_the_parts_of_a_recording_the_header_is_to_be_given(files, tmp_path, suffix, header):
    for each in (".vhdr", ".eeg", ".vmrk"):
        name = header if each == ".vhdr" else "night"
        shutil.copy(files / f"night{each}", tmp_path / f"{name}{each}")
    (tmp_path / "other.vhdr").write_text("DataFile=other.eeg")
    with pytest.raises(UserError, match=rf"a part of .* Give the header: .*/{header}\.vhdr\."):
        open_file(tmp_path / f"night{suffix}", files / "said.csv", TableSpec())
    (tmp_path / f"{header}.vhdr").unlink()
    with pytest.raises(UserError, match="MNE can't read"):
        open_file(tmp_path / f"night{suffix}", files / "said.csv", TableSpec())


def test_an_anonymous_file_of_edf_is_said_to_be_one(files, raw, tmp_path):
    """Its subject stays "X", which recordings are told apart by."""
    anonymous = raw.copy()
    said = " is anonymous: X stands for its subject"
    for number, name in enumerate(["X", "P07"]):
        anonymous.info["subject_info"] = {"his_id": name}
        path = tmp_path / f"night{number}.edf"
        mne.export.export_raw(path, anonymous, verbose="error")
        recording = open_file(path, files / "said.csv", TableSpec())
        assert recording.subject == name
        assert (f"{path.name}{said}" in recording.understood) == (name == "X")
        named = open_file(path, files / "said.csv", TableSpec(), subject="P08")
        assert f"{path.name}{said}" not in named.understood
