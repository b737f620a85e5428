"""What a place holds is found by looking, and what does not fit it is one line."""

from __future__ import annotations

import shutil
from dataclasses import replace

import mne
import numpy as np
import pytest

from ssense.data.recordings.interchange import SENTENCES
from ssense.data.recordings.readers.arrays import keep
from ssense.data.recordings.readers.opening import open_recording, open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.specification import plain


def test_each_format_is_known_when_it_is_seen(written, tmp_path):
    treebank = open_source(RecordingSource(place=str(written.treebank)))
    assert (treebank.subject, treebank.trial) == ("sub_9", "trial000")
    assert open_source(RecordingSource(place=str(written.bids))).subject == "sub-9"
    edf = RecordingSource(place=str(written.edf), sentences=str(written.sentences), subject="P1")
    assert open_source(edf).subject == "P1"
    kept = keep(treebank, tmp_path / "kept")
    assert open_source(RecordingSource(place=str(tmp_path / "kept"))).digest == kept.digest


@pytest.mark.parametrize(
    ("of", "given", "message"),
    [
        ("treebank", {"session": "1"}, "is no BIDS folder, and `session` is 1. Leave"),
        ("treebank", {"sentences": "said.csv"}, "is no BIDS folder, and `sentences` is said.csv"),
        ("treebank", {"subject": "sub_3"}, "no subject sub_3"),
        ("bids", {"trial": "trial001"}, "is a BIDS folder, and `trial` is trial001"),
        ("bids", {"task": "rest"}, "no task rest in .*Found: film"),
        ("edf", {}, "says nothing of what was said. Give a table with `sentences`"),
        ("edf", {"run": "1"}, "is one recording, and `run` is 1"),
    ],
)
def test_what_does_not_fit_a_format_is_one_line(written, of, given, message):
    with pytest.raises(UserError, match=message) as error:
        open_source(RecordingSource(place=str(getattr(written, of)), **given))
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_no_recording(tmp_path):
    with pytest.raises(UserError, match=r"holds no Brain Treebank recording.*of a BIDS data set"):
        open_source(RecordingSource(place=str(tmp_path)))


@pytest.mark.parametrize("name", ["p9.edf", "folder"])
def test_what_is_not_there_is_said_to_be_missing(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} does not exist. Check the path."):
        open_recording(tmp_path / name, sentences=tmp_path / "said.csv")


def test_fields_of_a_table_may_be_given_by_name(written):
    of_table = {"grouping": "none", "text": "sentence"}
    given = open_recording(written.edf, sentences=written.sentences, table=of_table)
    spec = TableSpec(grouping="none", text="sentence")
    same = open_recording(written.edf, sentences=written.sentences, table=spec)
    assert given.transcript.sentences == same.transcript.sentences
    for wrong, message in (
        ({"time_unit": "ms"}, "table: time_unit is 'ms', not one of auto"),
        ({"onse": "x"}, "table: onse is unknown here"),
    ):
        with pytest.raises(UserError, match=message):
            open_recording(written.edf, sentences=written.sentences, table=wrong)


def test_it_is_kept_as_plain_values():
    source = RecordingSource(place="s3://lab/x", subject="01", sentences="said.csv")
    assert from_plain(RecordingSource, plain(source)) == source


SAID = "onset,duration,text\n1.0,1.0,first things first\n4.0,1.5,and then the rest\n"


@pytest.mark.usefixtures("s3")
def test_from_a_bucket_all_parts_of_a_file_are_fetched(monkeypatch, tmp_path):
    """Of a recording that MNE split, and of a BrainVision header that was renamed."""
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = tmp_path / "here"
    here.mkdir()
    names = [f"LA{i}" for i in range(1, 20)]
    noise = 1e-5 * np.random.default_rng(0).standard_normal((19, 40_000))
    raw = mne.io.RawArray(noise, mne.create_info(names, 1000.0, "seeg"), verbose="error")
    raw.save(here / "long_raw.fif", split_size="2MB", verbose="error")
    raw.copy().crop(0, 1).save(here / "longer_raw.fif", verbose="error")  # is not needed
    raw.set_channel_types(dict.fromkeys(names, "eeg"), verbose="error")
    mne.export.export_raw(here / "night.vhdr", raw.crop(0, 8), verbose="error")
    (here / "night.vhdr").rename(here / "renamed.vhdr")
    (here / "said.csv").write_text(SAID)
    assert len(list(here.glob("long_raw*"))) > 1
    s3fs.S3FileSystem(anon=False).put(str(here), "lab/parts", recursive=True)
    for name in ("long_raw.fif", "renamed.vhdr"):
        given = {"subject": "P", "sentences": "said.csv"}
        there = open_source(RecordingSource(place=f"s3://lab/parts/{name}", **given))
        given["sentences"] = str(here / "said.csv")
        local = open_source(RecordingSource(place=str(here / name), **given))
        assert there.digest == local.digest
        np.testing.assert_array_equal(
            there.read_channel("LA7", [(7000, 7100)]), local.read_channel("LA7", [(7000, 7100)])
        )
    assert not list((tmp_path / "cache").rglob("longer*"))


@pytest.mark.usefixtures("s3")
def test_from_a_bucket_only_what_belongs_to_it_is_fetched(written, monkeypatch, tmp_path):
    """Of a BIDS folder with two subjects, and of a folder with several files."""
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = s3fs.S3FileSystem(anon=False)
    shutil.copytree(written.bids, tmp_path / "two")
    shutil.copytree(written.bids / "sub-9", tmp_path / "two/sub-8")
    files.put(str(tmp_path / "two"), "lab/two", recursive=True)
    files.put(str(written.edf), "lab/files/night.edf")
    files.put(str(written.edf), "lab/files/other.edf")
    files.put(str(written.sentences), "lab/files/said.tsv")
    bids = RecordingSource(place="s3://lab/two", subject="9")
    assert open_source(bids).digest == open_source(RecordingSource(place=str(written.bids))).digest
    assert not list((tmp_path / "cache").rglob("sub-8*"))
    edf = RecordingSource(place="s3://lab/files/night.edf", sentences="said.tsv", subject="P")
    local = RecordingSource(place=str(written.edf), sentences=str(written.sentences), subject="P")
    assert open_source(edf).transcript.sentences == open_source(local).transcript.sentences
    assert not list((tmp_path / "cache").rglob("other.edf"))


def test_it_is_the_same_wherever_it_lies(written, tmp_path, monkeypatch):
    """Its folder's name is no part of it, and a table that moved with it is found."""
    digests = set()
    for name in ("here", "there"):
        shutil.copytree(written.edf.parent, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        digests.add(open_recording(written.edf.name, sentences=SENTENCES).digest)
    assert len(digests) == 1
    opened = open_recording(written.edf.name, sentences=SENTENCES)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "there")
    moved = replace(opened.source, place=str(tmp_path / "here" / written.edf.name))
    assert open_source(moved).digest in digests


@pytest.mark.usefixtures("s3")
def test_what_is_fetched_has_its_table_with_it(written, monkeypatch, tmp_path):
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = s3fs.S3FileSystem(anon=False)
    files.put(str(written.bids), "lab/with-table", recursive=True)
    files.put(str(written.sentences), "lab/with-table/said.tsv")
    recording = open_recording("s3://lab/with-table", sentences="said.tsv")
    moved = recording.moved(recording.source.folder())  # as a worker does
    assert moved.digest == recording.digest
    with pytest.raises(UserError, match=r"fetched by every machine.*beside the recording"):
        open_recording("s3://lab/with-table", sentences=str(written.sentences))
