"""Folders in BIDS: as mne-bids writes them, and with the habits of real data sets.

Rows of channels.tsv, electrodes.tsv and coordsystem.json are those of ieeg_visual and
ieeg_visual_multimodal (bids-standard/bids-examples, both data sets under the PDDL 1.0).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest

from ssense.data.recordings.data_report import data_report
from ssense.data.recordings.readers.bids import Run, open_bids
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.errors import UserError

RATE_HZ = 1525.9
BARE = [str(number) for number in range(1, 7)]  # contacts named by numbers alone
EVENTS = "onset\tduration\ttrial_type\ttext\n" + "".join(
    f"{3 * i + 1:.4f}\t1.5\tspeech\tsentence number {i}\n" for i in range(6)
)


def write_run(root: Path, names, kinds, *, rate_hz=RATE_HZ, extension=".vhdr", **entities) -> Path:
    """A run with side-cars by mne-bids, and events of sentences."""
    info = mne.create_info(names, rate_hz, kinds)
    samples = 5e-5 * np.random.default_rng(0).standard_normal((len(names), int(20 * rate_hz)))
    raw = mne.io.RawArray(samples, info, verbose="error")
    raw.info["line_freq"] = 60
    path = mne_bids.BIDSPath(
        root=root, datatype="ieeg", **{"subject": "01", "task": "film"} | entities
    )
    formats = {".vhdr": "BrainVision", ".edf": "EDF"}
    mne_bids.write_raw_bids(
        raw, path, format=formats[extension], allow_preload=True, verbose="error"
    )
    events = Path(path.copy().update(suffix="events", extension=".tsv").fpath)
    events.write_text(EVENTS)
    return events.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("bids")
    write_run(root, ["LA1", "LA2", "LA3", "LA4", "EKG1"], ["seeg"] * 4 + ["ecg"])
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "bids")
    return tmp_path / "bids"


def sidecar(root: Path, end: str) -> Path:
    (found,) = root.glob(f"sub-01/**/*{end}")
    return found


def doubts(recording) -> str:
    return "\n".join(recording.doubts)


def test_a_run_is_read_with_what_describes_it(root):
    channels = sidecar(root, "channels.tsv")
    lines = channels.read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    rows[3][rows[0].index("status")] = "bad"
    channels.write_text("\n".join(map("\t".join, rows)) + "\n")
    recording = open_bids(root, Run(subject="sub-01"))
    assert (recording.subject, recording.trial, recording.title) == (
        *("sub-01", "task-film"),
        "film",
    )
    assert recording.electrodes == ("LA1", "LA2", "LA3", "LA4")
    assert recording.corrupted == {"LA3"}
    assert recording.sampling_rate_hz == pytest.approx(RATE_HZ, rel=1e-5)
    segments = select_segments(recording, SegmentSpec(reference="none"))
    assert segments.electrodes == ("LA1", "LA2", "LA4")
    assert segments.text == tuple(f"sentence number {i}" for i in range(6))
    expected = np.rint((3 * np.arange(6) + 1) * recording.sampling_rate_hz)
    before = round(0.5 * recording.sampling_rate_hz)
    np.testing.assert_array_equal(segments.start, expected - before)


def test_contacts_may_be_called_by_numbers_and_have_places(tmp_path):
    """As in ieeg_visual: channels 1, 2, ..., of a grid, in ACPC space."""
    folder = write_run(tmp_path, BARE, ["ecog"] * 6)
    for old in folder.glob("*electrodes.*"):
        old.unlink()
    for old in folder.glob("*coordsystem.json"):
        old.unlink()
    places = "1\t19\t-39\t-16\t4\n2\t23\t-40\t-19\t4\n3\t27\t-42\t-21\t4\n9\tn/a\tn/a\tn/a\tn/a\n"
    (folder / "sub-01_electrodes.tsv").write_text("name\tx\ty\tz\tsize\n" + places)
    system = {"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"}
    (folder / "sub-01_coordsystem.json").write_text(json.dumps(system))
    recording = open_bids(tmp_path, Run())
    assert recording.electrodes == tuple(BARE)
    assert recording.space == "ACPC"
    assert recording.coordinates == {
        "1": (19.0, -39.0, -16.0),
        "2": (23.0, -40.0, -19.0),
        "3": (27.0, -42.0, -21.0),
    }


@pytest.mark.parametrize(("unit", "scale"), [("m", 1e3), ("cm", 10.0), ("mm", 1.0)])
def test_places_come_in_millimetres(root, unit, scale):
    write_places(root, [("LA1", 0.02, 0.01, -0.03)], unit)
    place = open_bids(root, Run()).coordinates["LA1"]
    assert place == pytest.approx((0.02 * scale, 0.01 * scale, -0.03 * scale))


def write_places(root: Path, rows, unit="mm", space="MNI152NLin2009aSym"):
    table = sidecar(root, "electrodes.tsv")
    lines = ["\t".join(map(str, row)) for row in rows]
    table.write_text("name\tx\ty\tz\n" + "\n".join(lines) + "\n")
    system = {"iEEGCoordinateSystem": space, "iEEGCoordinateUnits": unit}
    sidecar(root, "coordsystem.json").write_text(json.dumps(system))


def test_metres_for_millimetres_are_told(root):
    write_places(root, [("LA1", 19, -39, -16)], "m")
    with pytest.raises(UserError, match=r"LA1 lies 39 m from the origin.*Correct the unit"):
        open_bids(root, Run())


def test_what_the_tables_do_not_share_is_told(root):
    write_places(root, [("LA'1", 1, 2, 3), ("LB9", 4, 5, 6)])
    table = sidecar(root, "channels.tsv")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], lines[1].replace("LA1", "ZZ1")]) + "\n")
    recording = open_bids(root, Run())
    assert "does not describe EKG1" in doubts(recording)
    assert "describes what the file does not have: ZZ1" in doubts(recording)
    assert "2 contacts of electrodes.tsv are no channel" in doubts(recording)


def test_units_that_differ_and_a_rate_that_does_are_told(root):
    table = sidecar(root, "channels.tsv")
    table.write_text(table.read_text().replace("µV", "mV", 1))
    described = sidecar(root, "_ieeg.json")
    content = json.loads(described.read_text())
    described.write_text(json.dumps(content | {"SamplingFrequency": 2048}))
    recording = open_bids(root, Run())
    assert "mV, µV for channels of one recording" in doubts(recording)
    segments = select_segments(recording, SegmentSpec())
    said = data_report(recording, segments, SegmentSpec()).markdown()
    assert "SamplingFrequency = 2048" in said
    assert "Attention" in said


def test_runs_are_told_apart_by_their_entities(tmp_path):
    for run in ("01", "02"):
        write_run(tmp_path, ["LA1", "LA2", "LA3"], ["seeg"] * 3, rate_hz=256.0, run=run)
    write_run(
        *(tmp_path, ["LA1", "LA2", "LA3"], ["seeg"] * 3), rate_hz=256.0, subject="02", session="a"
    )
    with pytest.raises(UserError, match=r"3 recordings.*Say which subject .*`subject`: 01, 02"):
        open_bids(tmp_path, Run())
    with pytest.raises(UserError, match=r"2 recordings.*`run`: 01, 02"):
        open_bids(tmp_path, Run(subject="01"))
    with pytest.raises(UserError, match=r"no subject 07 in .*Found: 01, 02\. Check `subject`"):
        open_bids(tmp_path, Run(subject="sub-07"))
    assert open_bids(tmp_path, Run(subject="01", run="2")).trial == "task-film run-02"
    assert open_bids(tmp_path, Run(subject="2")).trial == "ses-a task-film"
    digests = {
        open_bids(tmp_path, Run(subject="01", run=run)).digest for run in ("1", "2", "01", "02")
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: sidecar(root, "events.tsv").unlink(), "has no events.tsv.*`sentences`"),
        (lambda root: sidecar(root, "events.tsv").write_text("onset\tduration\n"), "events.tsv"),
        (
            lambda root: sidecar(root, "events.tsv").write_text(
                "onset\tduration\ttrial_type\n1.0\t0.5\t5\n"
            ),
            "events.tsv.*text",
        ),
        (lambda root: sidecar(root, ".eeg").unlink(), "MNE can't read .*vhdr"),
        (lambda root: sidecar(root, ".vhdr").write_text("nothing"), "MNE can't read .*vhdr"),
        (lambda root: sidecar(root, "channels.tsv").write_text("a\tb\n1\t2\n"), "no column name"),
        (lambda root: sidecar(root, "channels.tsv").write_bytes(b"\0\1\2"), "channels.tsv"),
        (lambda root: sidecar(root, "coordsystem.json").write_text("{"), "not valid JSON"),
        (lambda root: shutil.rmtree(root / "sub-01"), "has no recording of iEEG or EEG such as"),
    ],
)
def test_what_is_wrong_is_one_line(root, spoil, message):
    spoil(root)
    with pytest.raises(UserError, match=message) as error:
        open_bids(root, Run())
    assert "\n" not in str(error.value)


def test_its_digest_is_that_of_content(root, made):
    first = open_bids(made, Run()).digest
    assert open_bids(root, Run()).digest == first
    events = sidecar(root, "events.tsv")
    events.write_text(events.read_text().replace("number 3", "number three"))
    assert open_bids(root, Run()).digest != first
