"""Folders in BIDS: as mne-bids writes them, and with the habits of real data sets.

Rows of channels.tsv, electrodes.tsv and coordsystem.json are those of ieeg_visual and
ieeg_visual_multimodal (bids-standard/bids-examples, both data sets under the PDDL 1.0).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import edfio
import mne
import mne_bids
import numpy as np
import pytest

from ssense.data.recordings.data_report import data_report
from ssense.data.recordings.readers.bids import open_bids
from ssense.data.recordings.readers.bids_files import Run
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


@pytest.mark.parametrize("column", ["region", "Anatomical_Label", "ROI"])
def test_a_column_of_regions_names_those_of_contacts(root, column):
    write_places(root, [("LA1", 1, 2, 3), ("LA'2", 4, 5, 6)])
    assert open_bids(root, Run()).regions == {}
    rows = [f"name\tx\ty\tz\t{column}", "LA1\t1\t2\t3\tSTG", "LA2\t4\t5\t6\tn/a"]
    sidecar(root, "electrodes.tsv").write_text("\n".join(rows) + "\n")
    assert open_bids(root, Run()).regions == {"LA1": "STG"}
    sidecar(root, "coordsystem.json").unlink()  # regions need no space
    assert open_bids(root, Run()).regions == {"LA1": "STG"}


ALL = [(f"LA{i}", 10 * i, -20, 5) for i in range(1, 5)]


def test_places_within_a_millimetre_are_told(root):
    """Metres that are said to be millimetres: the other way round is refused."""
    write_places(root, [(name, x / 1e3, y / 1e3, z / 1e3) for name, x, y, z in ALL], "mm")
    assert (
        "4 contacts of sub-01_electrodes.tsv lie within 0.04 mm of the origin by the unit mm of "
        "sub-01_coordsystem.json: is it another?"
    ) in doubts(open_bids(root, Run()))
    write_places(root, ALL, "mm")
    assert not open_bids(root, Run()).doubts


@pytest.mark.parametrize(
    ("cell", "said"),
    [("12,5", '"12,5"'), ("left", '"left"'), ("inf", '"inf"'), ("1.2.3", '"1.2.3"')],
)
def test_a_place_that_is_no_number_is_refused(root, cell, said):
    write_places(root, [*ALL[:2], ("LA3", 1, cell, 2)])
    match = rf"electrodes\.tsv: {said} in column y is no number \(contact LA3\)\. Write it with"
    with pytest.raises(UserError, match=match):
        open_bids(root, Run())


@pytest.mark.parametrize("unit", ["inch", "pixels", "n/a", ""])
def test_places_in_another_unit_are_told(root, unit):
    write_places(root, ALL, unit)
    recording = open_bids(root, Run())
    assert recording.coordinates == {}
    said = f"places in {unit or 'no unit'} are not used, only those in m, cm or mm"
    assert said in doubts(recording)


@pytest.mark.parametrize("rest", [[], [("LA3", "n/a", "n/a", "n/a"), ("LA4", 1, 2, "NaN")]])
def test_contacts_without_a_place_are_told(root, rest):
    write_places(root, [*ALL[:2], *rest])
    recording = open_bids(root, Run())
    assert set(recording.coordinates) == {"LA1", "LA2"}
    said = "2 of 4 contacts have no place in sub-01_electrodes.tsv: LA3, LA4"  # a heart needs none
    assert doubts(recording) == said


def test_a_rate_of_channels_tsv_that_contradicts_is_told(root):
    def stated(rate_of):
        table = sidecar(root, "channels.tsv")
        rewritten(table, lambda row: row | {"sampling_frequency": rate_of(row)})
        recording = open_bids(root, Run())
        segments = select_segments(recording, SegmentSpec())
        said = data_report(recording, segments, SegmentSpec()).markdown()
        assert ("sampling_frequency = " in said) == ("that is not used" in said)
        return recording.stated_rates.get("sampling_frequency"), "sampling_frequency = " in said

    assert stated(lambda row: row["sampling_frequency"]) == ((pytest.approx(RATE_HZ),), False)
    assert stated(lambda row: "1000" if row["name"] == "LA2" else "n/a") == (
        (1000.0,),
        True,
    )
    # Of what records no brain nothing is read.
    assert stated(lambda row: "50" if row["name"] == "EKG1" else "n/a") == (None, False)


def test_a_slower_channel_of_edf_does_not_contradict_its_own_rate(tmp_path):
    names = ["LA1", "LA2", "LA3", "LA4"]
    folder = write_run(tmp_path, names, ["seeg"] * 4, rate_hz=512.0, extension=".edf")
    samples = [np.random.default_rng(i).standard_normal(20 * (256 if i else 512)) for i in range(4)]
    signals = [
        edfio.EdfSignal(50 * each, len(each) / 20, label=name, physical_dimension="uV")
        for name, each in zip(names, samples, strict=True)
    ]
    (file,) = folder.glob("*.edf")
    edfio.Edf(signals).write(file)
    (table,) = folder.glob("*channels.tsv")
    slower = {"LA2": "256", "LA3": "250"}
    rewritten(table, lambda row: row | {"sampling_frequency": slower.get(row["name"], "512")})
    stated = open_bids(tmp_path, Run()).stated_rates["sampling_frequency"]
    assert stated == (512.0, 250.0)  # 512 Hz is wrong of LA4, and 256 Hz right of LA2


def test_what_the_tables_do_not_share_is_told(root):
    write_places(root, [("LA'1", 1, 2, 3), ("LB9", 4, 5, 6)])
    table = sidecar(root, "channels.tsv")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], lines[1].replace("LA1", "ZZ1")]) + "\n")
    recording = open_bids(root, Run())
    assert "does not describe EKG1" in doubts(recording)
    assert "describes what the file does not have: ZZ1" in doubts(recording)
    assert "2 contacts of sub-01_electrodes.tsv are no channel" in doubts(recording)


def test_units_that_differ_and_a_rate_that_does_are_told(root):
    table = sidecar(root, "channels.tsv")
    table.write_text(table.read_text().replace("µV", "mV", 1))
    described = sidecar(root, "_ieeg.json")
    content = json.loads(described.read_text())
    described.write_text(json.dumps(content | {"SamplingFrequency": 2048}))
    recording = open_bids(root, Run())
    assert "gives mV as the unit of LA1, the file µV: taken for what the file says" in doubts(
        recording
    )
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


def rewritten(table: Path, change) -> None:
    """Change the rows of a side-car, each a dictionary."""
    header, *rows = [line.split("\t") for line in table.read_text().splitlines()]
    changed = [change(dict(zip(header, row, strict=True))) for row in rows]
    lines = ["\t".join(changed[0]), *("\t".join(row.values()) for row in changed)]
    table.write_text("\n".join(lines) + "\n")


def test_what_others_made_of_a_recording_is_no_recording(root):
    expected = open_bids(root, Run()).digest
    for folder in ("derivatives/clean", "sourcedata", "sourcedata/raw"):
        shutil.copytree(root / "sub-01", root / folder / "sub-01")
    assert open_bids(root, Run()).digest == expected


@pytest.mark.parametrize(
    "spelt",
    [
        lambda n: n.replace("LA", "LA0"),
        lambda n: n.replace("LA", "LA-"),
        lambda n: f"{n} ",
        lambda n: f"EEG {n}-Ref",
    ],
)
def test_channels_spelt_otherwise_keep_what_is_said_of_them(root, spelt):
    def change(row):
        bad = {"status": "bad"} if row["name"] == "LA3" else {}
        return row | {"name": spelt(row["name"])} | bad

    rewritten(sidecar(root, "channels.tsv"), change)
    write_places(root, [(spelt(name), *place) for name, *place in ALL])
    recording = open_bids(root, Run())
    assert recording.electrodes == ("LA1", "LA2", "LA3", "LA4")
    assert recording.corrupted == {"LA3"}
    assert recording.coordinates == {name: tuple(place) for name, *place in ALL}
    assert not recording.doubts


def test_two_rows_of_one_contact_are_not_guessed(root):
    table = sidecar(root, "channels.tsv")
    rewritten(table, lambda row: row | {"name": row["name"].replace("LA2", "LA02")})
    table.write_text(table.read_text() + table.read_text().splitlines()[2].replace("LA02", "LA 2"))
    assert "does not describe LA2" in doubts(open_bids(root, Run()))


@pytest.mark.parametrize("change", [lambda row: row | {"type": "n/a"}, lambda row: drop(row)])
def test_without_a_type_the_file_s_kind_stays(root, change):
    rewritten(sidecar(root, "channels.tsv"), change)
    assert open_bids(root, Run()).electrodes == ("LA1", "LA2", "LA3", "LA4")


def drop(row):
    return {name: value for name, value in row.items() if name != "type"}


def test_one_unit_in_two_spellings_is_one(root):
    rewritten(
        sidecar(root, "channels.tsv"),
        lambda row: (
            row | {"units": {"LA1": "uV", "LA2": "\u03bcV", "LA3": "n/a"}.get(row["name"], "µV")}
        ),
    )
    assert not open_bids(root, Run()).doubts


def in_space(root, entity, x, system="Other", of_table=True, of_system=True):
    """Places of LA1 in a space, and what describes it, in files named by it."""
    folder = sidecar(root, "channels.tsv").parent
    space = f"_space-{entity}" if entity else ""
    if of_table:
        (folder / f"sub-01{space}_electrodes.tsv").write_text(f"name\tx\ty\tz\nLA1\t{x}\t0\t0\n")
    if of_system:
        described = {"iEEGCoordinateSystem": system, "iEEGCoordinateUnits": "mm"}
        (folder / f"sub-01{space}_coordsystem.json").write_text(json.dumps(described))


@pytest.fixture
def unplaced(root):
    for end in ("electrodes.tsv", "coordsystem.json"):
        for path in root.glob(f"sub-01/**/*{end}"):
            path.unlink()
    return root


def test_places_go_with_the_space_of_their_own_name(unplaced):
    """Of two spaces that of MNI; and the coordinate system by the same name, not by chance."""
    in_space(unplaced, "ACPC", 1, "ACPC")
    in_space(unplaced, "fsaverage", 2, "fsaverage")
    recording = open_bids(unplaced, Run())
    assert (recording.space, recording.coordinates["LA1"][0]) == ("ACPC", 1.0)
    in_space(unplaced, "MNI152Lin", 3, "MNI152Lin")
    recording = open_bids(unplaced, Run())
    assert (recording.space, recording.coordinates["LA1"][0]) == ("MNI152Lin", 3.0)
    said = "places in 3 spaces: those of sub-01_space-MNI152Lin_electrodes.tsv are used"
    assert said in " ".join(recording.understood)


@pytest.mark.parametrize(
    ("tables", "systems", "used"),
    [
        (["fsaverage"], ["Other"], ""),
        (["fsaverage"], ["Other", "fsaverage"], "fsaverage"),
        ([""], ["Other"], "Other"),
        ([""], ["Other", "MNI"], ""),
        (["fsaverage"], [""], "of no name"),
        (["fsaverage"], [], ""),
    ],
)
def test_places_of_an_unknown_space_are_not_used(unplaced, tables, systems, used):
    for entity in tables:
        in_space(unplaced, entity, 1, of_system=False)
    for entity in systems:
        in_space(unplaced, entity, 1, entity or "of no name", of_table=False)
    recording = open_bids(unplaced, Run())
    assert recording.space == used
    assert bool(recording.coordinates) == bool(used)
    assert ("of its space: places are not used" in doubts(recording)) == (not used)


def test_contacts_at_one_place_are_both_channels(root):
    write_places(root, [*ALL[1:], ("LA1", *ALL[1][1:])])
    assert not open_bids(root, Run()).doubts


def test_side_cars_of_one_right_are_refused_and_the_nearest_counts(root):
    folder = sidecar(root, "channels.tsv").parent
    events = sidecar(root, "events.tsv")
    (root / "task-film_events.tsv").write_text(EVENTS.replace("number", "far"))
    (folder / "sub-01_task-film_run-07_events.tsv").write_text(EVENTS.replace("number", "other"))
    assert "sentence number 0" in open_bids(root, Run()).transcript.sentences.values()
    events.rename(folder / "sub-01_events.tsv")
    assert "sentence number 0" in open_bids(root, Run()).transcript.sentences.values()
    (folder / "task-film_events.tsv").write_text(EVENTS)
    with pytest.raises(UserError, match=r"sub-01_events.tsv and task-film_events.tsv describe"):
        open_bids(root, Run())
    for path in folder.glob("*events.tsv"):
        path.unlink()
    assert "sentence far 0" in open_bids(root, Run()).transcript.sentences.values()


def renamed(folder: Path, old: str, new: str, to: Path | None = None) -> None:
    """Copy a run's files, and what its header says of them, to those of another."""
    for path in folder.glob("*task-film*"):
        copy = (to or folder) / path.name.replace(old, new)
        copy.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


def test_acquisitions_and_labels_are_told_apart(root):
    folder = sidecar(root, "channels.tsv").parent
    renamed(folder, "task-film_", "task-film_acq-micro_")
    with pytest.raises(UserError, match=r"Say which acquisition with `acquisition`: micro, none"):
        open_bids(root, Run())
    assert open_bids(root, Run(acquisition="acq-micro")).trial == "task-film acq-micro"
    with pytest.raises(UserError, match="no subject ² in"):
        open_bids(root, Run(subject="²"))
    (root / "sub-1/ieeg").mkdir(parents=True)
    renamed(folder, "sub-01", "sub-1", root / "sub-1/ieeg")
    assert open_bids(root, Run(subject="1", acquisition="micro")).subject == "sub-1"
    assert open_bids(root, Run(subject="01", acquisition="micro")).subject == "sub-01"


def test_two_files_of_a_run_are_named_by_what_differs(root):
    folder = sidecar(root, "channels.tsv").parent
    (root / "sub-01/eeg").mkdir()
    renamed(folder, "_ieeg", "_eeg", root / "sub-01/eeg")
    assert open_bids(root, Run()).where.endswith("sub-01/ieeg/sub-01_task-film_channels.tsv")
    renamed(folder, "task-film_", "task-film_desc-clean_")
    with pytest.raises(UserError, match=r"2 files for one run, which differ in desc \(clean, none"):
        open_bids(root, Run())
