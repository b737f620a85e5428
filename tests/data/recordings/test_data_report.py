from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import re
from pathlib import Path
from statistics import fmean, median, quantiles

import h5py
import numpy as np
import pytest

from ssense.data.recordings.data_report import (
    DataReport,
    data_report,
)
from ssense.data.recordings.overlap import split_overlap
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.repeats import TowerTexts
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.errors import UserError

RATE_HZ = 1024
LEAD_S = 3.0
PAUSES = ((20.0, 2.0), (40.0, 3.5))  # after this movie time, for so long
LABELS = ["F1a1", "F1a2*", "F1_a3#", "F1a4", "F1a5", "F1a6", "DC4", "TRIG1"]


def write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_timings(root: Path, rate_hz: float = RATE_HZ, until_s: float = 61.0) -> None:
    """A trigger every 1/8 s; both pauses lie halfway between two triggers."""
    rows = []
    for time_s in np.arange(0.125, until_s + 0.01, 0.125).tolist():
        paused_s = sum(length_s for at_s, length_s in PAUSES if at_s < time_s)
        rows.append(["trigger", time_s, round((LEAD_S + paused_s + time_s) * rate_hz)])
    for at_s, length_s in PAUSES:
        before_s = sum(length_s for earlier_s, length_s in PAUSES if earlier_s < at_s)
        begin = round((LEAD_S + before_s + at_s + 0.0625) * rate_hz)
        rows.append(["pause", at_s - 0.03, begin])
        rows.append(["unpause", at_s - 0.03, begin + round(length_s * rate_hz)])
    rows.sort(key=lambda row: row[2])
    path = root / "subject_timings/sub_9_trial000_timings.csv"
    write_rows(path, ["type", "movie_time", "index"], rows)


def write_transcript(root: Path, sentences: list[tuple]) -> None:
    """Sentences of (start, end, text), each a timed word and a particle."""
    rows = []
    for number, (start_s, end_s, text) in enumerate(sentences):
        rows += [[start_s, end_s, text, number], ["", "", text, number]]
    path = root / "transcripts/made-up/features.csv"
    write_rows(path, ["start", "end", "sentence", "sentence_idx"], rows)


SENTENCES = [
    (1.0, 1.5, "Back it up."),  # a bin's lower edge belongs to it
    (2.0, 2.4, "back  it UP!"),
    (5.0, 7.0, "Nothing like this."),
    (19.0, 19.9, "Its context reaches into a pause."),
    (30.0, 34.0, "Four seconds are too long."),
    (50.0, 52.75, "Back it up"),
    ("", "", "Never timed."),
    (70.0, 70.5, "After the last trigger."),
    (71.0, 72.0, "This too."),
]


def noise(number: int, n_samples: int) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 50, n_samples).astype(np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A complete recording of 80 s with two pauses, a corrupted contact and a nameless dataset."""
    write_json(tmp_path / "electrode_labels/sub_9/electrode_labels.json", LABELS)
    write_json(tmp_path / "corrupted_elec.json", {"sub_9": ["F1a_5#", "DC4*"]})
    metadata = {"title": "Made Up", "filename": "made-up"}
    write_json(tmp_path / "subject_metadata/sub_9_trial000_metadata.json", metadata)
    write_timings(tmp_path)
    write_transcript(tmp_path, SENTENCES)
    with h5py.File(tmp_path / "sub_9_trial000.h5", "w") as file:
        for number in range(len(LABELS) + 1):
            file[f"data/electrode_{number}"] = noise(number, 80 * RATE_HZ)
    return tmp_path


def report_on(root: Path, spec: SegmentSpec | None = None) -> DataReport:
    spec = spec or SegmentSpec.literal()
    recording = open_brain_treebank(root)
    return data_report(recording, select_segments(recording, spec), spec)


# ---------------------------------------------------------------- channels


def test_every_channel_is_kept_or_left_out_for_a_reason(root):
    channels = report_on(root).channels
    assert channels.kept == ("F1a2", "F1a3")
    assert channels.left_out == {
        "not neural": ("DC4", "TRIG1"),
        "corrupted": ("F1a5",),
        "lacks a clean neighbour": ("F1a1", "F1a4", "F1a6"),
        "unlabelled": ("electrode_8",),
    }


def test_without_the_laplacian_no_channel_needs_neighbours(root):
    clean = report_on(root, SegmentSpec(reference="none")).channels
    assert clean.kept == ("F1a1", "F1a2", "F1a3", "F1a4", "F1a6")
    assert list(clean.left_out) == ["not neural", "corrupted", "unlabelled"]
    everything = report_on(root, SegmentSpec(electrodes="all", reference="none")).channels
    assert everything.left_out.keys() == {"not neural", "unlabelled"}


# ---------------------------------------------------------------- sampling rate


def test_the_rate_comes_with_its_evidence(root):
    rate = report_on(root).rate
    # From 1/8 to 20 s, 20 1/8 to 40 s and 40 1/8 to 61 s: one, one and two chunks of ten seconds.
    assert (rate.chunks, rate.minutes) == (4, pytest.approx(40 / 60))
    assert (rate.rate_hz, rate.measured_hz, rate.assumed_hz) == (1024, 1024, 1024)
    assert (rate.lowest_hz, rate.highest_hz) == (1024, 1024)
    assert rate.contradictions == ()


def test_the_median_is_told_before_it_is_set_to_a_usual_rate(root):
    write_timings(root, rate_hz=1024.1)
    rate = report_on(root).rate
    assert rate.rate_hz == 1024
    assert rate.measured_hz == pytest.approx(1024.1, abs=0.05)
    assert abs(rate.measured_hz - 1024) < rate.tolerance_hz < 1
    assert rate.lowest_hz <= rate.measured_hz <= rate.highest_hz
    assert rate.highest_hz - rate.lowest_hz < 0.2


def test_short_runs_are_measured_whole(root):
    write_timings(root, until_s=9.0)
    rate = report_on(root).rate
    assert rate.chunks == 1
    assert rate.minutes == pytest.approx((9 - 0.125) / 60)
    assert rate.rate_hz == rate.measured_hz == 1024


def test_the_paper_s_rate_is_contradicted_by_the_triggers(root):
    rate = report_on(root, SegmentSpec.paper()).rate
    assert (rate.rate_hz, rate.assumed_hz) == (1024, 2048)
    assumed, placed = rate.contradictions
    assert "2048 Hz is assumed, 1024 Hz measured" in assumed
    assert "1 s of context is really 2 s, 60 Hz is 30 Hz" in assumed
    assert "as if there were 2048 samples a second" in placed


def test_the_paper_s_rate_is_right_for_most_recordings(root):
    write_timings(root, rate_hz=2048)
    with h5py.File(root / "sub_9_trial000.h5", "w") as file:
        for number in range(len(LABELS)):
            file[f"data/electrode_{number}"] = noise(number, 80 * 2048)
    rate = report_on(root, SegmentSpec.paper()).rate
    assert (rate.rate_hz, rate.assumed_hz, rate.contradictions) == (2048, 2048, ())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_for_a_narrow_terminal_are_wrapped_once(root, width):
    write_timings(root, rate_hz=900)
    lines = report_on(root).lines(width)
    assert max(map(len, lines)) <= width
    at = next(number for number, line in enumerate(lines) if "near none" in line)
    attention = list(itertools.takewhile(lambda line: line.startswith(" " * 13), lines[at + 1 :]))
    # No line ends before the next word would not fit any more.
    text = [line[13:] for line in (lines[at], *attention)]
    for line, following in itertools.pairwise(text):
        assert len(line) + 1 + len(following.split()[0]) > width - 13
    assert "Tucker-Davis);" in " ".join(text)


def test_an_unusual_rate_is_worth_a_look_at_the_timings(root):
    write_timings(root, rate_hz=900)
    rate = report_on(root).rate
    assert rate.rate_hz == rate.measured_hz
    assert re.match("900 Hz is near none of the usual rates .*2048.*timings", *rate.contradictions)


def test_attributes_named_like_a_rate_are_quoted_wherever_they_are(root):
    with h5py.File(root / "sub_9_trial000.h5", "a") as file:
        file.attrs.update(SamplingRate=2048, orig_data_hash="8c1f", n_samples=7, fs=b"1k")
        file["data"].attrs["samples_per_second"] = np.array([1024.0])
        file["data"].attrs["sfreq"] = np.nan
        file["data"].attrs["line_freq"] = [50, 60]
        file["data"].attrs["narrated"] = 3
        for number in range(5):
            file[f"data/electrode_{number}"].attrs["fs"] = 1024 if number else 512
    rate = report_on(root).rate
    assert rate.attributes == {
        "SamplingRate": (2048.0,),
        "fs": ("1k", 512.0, 1024.0),
        "samples_per_second": (1024.0,),
        "sfreq": ("nan",),
    }
    expected = "the HDF5 file says SamplingRate = 2048, fs = 512; that is not used"
    assert rate.contradictions == (expected,)
    assert rate.rate_hz == 1024


# ---------------------------------------------------------------- the movie and its sentences


def test_pauses_lead_in_and_end_are_those_of_the_timings(root):
    movie = report_on(root).movie
    assert movie.recording_s == 80
    assert (movie.first_trigger_s, movie.lead_in_s) == (0.125, 3.125)
    assert (movie.last_trigger_s, movie.transcript_end_s) == (61, 72)
    assert movie.sentences_beyond == 2
    expected = [(at_s, at_s + 0.125, length_s) for at_s, length_s in PAUSES]
    assert [dataclasses.astuple(pause) for pause in movie.pauses] == expected


def test_a_sentence_that_only_ends_beyond_the_triggers_is_not_beyond(root):
    rows = [[1.0, 1.5, "Kept.", 0], [60.9, 61.1, "Late.", 1], [61.2, 63.0, "Late.", 1]]
    path = root / "transcripts/made-up/features.csv"
    write_rows(path, ["start", "end", "sentence", "sentence_idx"], rows)
    movie = report_on(root).movie
    assert (movie.sentences_beyond, movie.transcript_end_s) == (0, 63)


def test_sentences_are_kept_or_dropped_for_a_reason(root):
    sentences = report_on(root).sentences
    assert (sentences.in_transcript, sentences.kept) == (9, 4)
    assert sentences.dropped == {"no aligned word": 3, "too long": 1, "straddles a pause": 1}
    assert sentences.repeated == 3
    assert sentences.most_frequent == (("back it up", 3),)


def test_a_sentence_number_with_several_texts_is_said(root):
    rows = [[1.0, 1.5, "One text.", 0], [1.6, 2.0, "Another text.", 0], [5.0, 6.0, "Alone.", 1]]
    rows += [["", "", "", 1], [6.1, 6.2, "Alone. ", 1]]  # blanks are no other text
    path = root / "transcripts/made-up/features.csv"
    write_rows(path, ["start", "end", "sentence", "sentence_idx"], rows)
    (doubt,) = report_on(root).sentences.doubts
    assert doubt.startswith("1 sentence number with several texts, of which the first is taken: 0")
    assert "“One text.” and “Another text.”" in doubt
    assert any("Attention  1 sentence number" in line for line in report_on(root).lines())


def test_what_the_text_tower_makes_of_the_sentences(root):
    recording, spec = open_brain_treebank(root), SegmentSpec.literal()
    segments = select_segments(recording, spec)
    assert len(segments) == 4
    # The third has the tokens of the second; the last is too long.
    tower = TowerTexts(np.array([0, 1, 1, 3]), np.array([False, False, False, True]), 77)
    sentences = data_report(recording, segments, spec, tower).sentences
    assert (sentences.repeated, sentences.most_frequent) == (4, (("back it up", 4),))
    assert sentences.cut == 1
    assert sentences.doubts == (
        "1 text longer than the 77 tokens that the target reads: the rest is cut off",
    )


def test_durations_and_padding(root):
    durations = report_on(root).durations
    samples = [round((s + 1.5) * RATE_HZ) for s in (0.4, 0.5, 2.0, 2.75)]
    assert durations.histogram == {
        "0 to 0.5 s": 1,
        "0.5 to 1 s": 1,
        "1 to 1.5 s": 0,
        "1.5 to 2 s": 0,
        "2 to 2.5 s": 1,
        "2.5 to 3 s": 1,
        "3 to 3.5 s": 0,
        "3.5 to 4 s": 0,
        "4 to 4.5 s": 0,
        "4.5 to 5 s": 0,
        "5 s or more": 0,
    }
    assert durations.median_s == pytest.approx(1.25)
    assert durations.longest_s == pytest.approx(2.75)
    assert durations.longest_samples == samples[-1] == 4352
    assert durations.median_samples == pytest.approx(median(samples), abs=1)
    assert durations.padded_samples == 4400
    assert durations.padding == pytest.approx(1 - sum(samples) / (4 * 4400), abs=1e-4)


def test_long_sentences_share_the_last_bin(root):
    write_transcript(root, [(1.0, 6.0, "Five."), (23.0, 35.0, "Twelve."), (50.0, 54.9, "Less.")])
    durations = report_on(root, SegmentSpec(max_duration_s=20.0)).durations
    counts = {name: n for name, n in durations.histogram.items() if n}
    assert counts == {"4.5 to 5 s": 1, "5 s or more": 2}


# ---------------------------------------------------------------- overlap


def test_too_few_segments_for_a_split(root):
    overlap = report_on(root).overlap
    assert (overlap.test_segments, overlap.test_inside) == (None, None)
    # The first two segments, 0.5 to 2.5 s and 1.5 to 3.4 s, share one second.
    assert overlap.segments == 0.5
    assert overlap.inside == pytest.approx((1 / 2.0 + 1 / 1.9) / 4, abs=1e-3)
    assert any("too few segments" in line for line in report_on(root).lines())


# ---------------------------------------------------------------- a synthetic recording


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "recording"
    spec = SyntheticSpec(sentences=150, electrodes=7, coupling=0, sampling_rate=256, pauses=3)
    write_synthetic(folder, spec)
    return folder


@pytest.fixture(params=["literal", "paper"])
def both(request, synthetic):
    spec = SegmentSpec.paper() if request.param == "paper" else SegmentSpec.literal()
    if request.param == "literal":
        spec = dataclasses.replace(spec, line_hz=None)
    recording = open_brain_treebank(synthetic)
    segments = select_segments(recording, spec)
    return recording, segments, data_report(recording, segments, spec)


def test_sentences_and_durations_against_brute_force(both):
    _, segments, report = both
    sentences, durations = report.sentences, report.durations
    assert sentences.kept + sum(sentences.dropped.values()) == sentences.in_transcript == 150
    lengths_s = [b - a for a, b in zip(segments.onset_s, segments.offset_s, strict=True)]
    quartiles = quantiles(lengths_s, n=4, method="inclusive")
    found = (durations.lower_quartile_s, durations.median_s, durations.upper_quartile_s)
    assert found == pytest.approx(quartiles)
    assert durations.longest_s == max(lengths_s)
    for name, count in durations.histogram.items():
        low, high = (float(edge) for edge in re.findall(r"[\d.]+", f"{name} 1000")[:2])
        assert count == sum(low <= length_s < high for length_s in lengths_s), name
    spans = [range(a, b) for a, b in zip(segments.start, segments.stop, strict=True)]
    assert durations.longest_samples == max(map(len, spans))
    assert durations.median_samples == median(map(len, spans))
    n_zeros = sum(segments.n_samples - len(span) for span in spans)
    assert durations.padding == pytest.approx(n_zeros / (len(spans) * segments.n_samples))


def test_overlap_against_brute_force(both):
    _, segments, report = both
    depth = np.zeros(segments.stop.max(), int)
    for start, stop in zip(segments.start, segments.stop, strict=True):
        depth[start:stop] += 1
    pairs = zip(segments.start, segments.stop, strict=True)
    shares = [np.mean(depth[start:stop] > 1) for start, stop in pairs]
    assert report.overlap.segments == pytest.approx(fmean(share > 0 for share in shares))
    assert report.overlap.inside == pytest.approx(fmean(shares))
    found = (report.overlap.test_segments, report.overlap.test_inside)
    assert found == split_overlap(segments.start, segments.stop)


def test_repeats_against_brute_force(both):
    _, segments, report = both
    plain = [" ".join(re.sub(r"[^\w']", " ", text).lower().split()) for text in segments.text]
    repeated = [text for text in plain if plain.count(text) > 1]
    assert report.sentences.repeated == len(repeated) > 0
    text, count = report.sentences.most_frequent[0]
    assert plain.count(text) == count == max(map(plain.count, plain))


def test_timings_against_the_file(both):
    recording, _, report = both
    with recording.files["timings"].open() as file:
        rows = list(csv.DictReader(file))
    index = {kind: [int(r["index"]) for r in rows if r["type"] == kind] for kind in ("pause",)}
    index["unpause"] = [int(r["index"]) for r in rows if r["type"] == "unpause"]
    lengths_s = np.subtract(index["unpause"], index["pause"]) / 256
    found = [pause.length_s for pause in report.movie.pauses]
    np.testing.assert_allclose(found, lengths_s, atol=0.02)
    triggers_s = [float(row["movie_time"]) for row in rows if row["type"] == "trigger"]
    assert report.movie.last_trigger_s == max(triggers_s)
    assert report.rate.minutes < (max(triggers_s) - min(triggers_s)) / 60
    assert report.rate.minutes > (max(triggers_s) - min(triggers_s)) / 60 - 4 * 10.3 / 60
    assert report.rate.measured_hz == pytest.approx(256, rel=1e-3)
    assert recording.sampling_rate_hz == report.rate.rate_hz == 256


# ---------------------------------------------------------------- on screen and in files


def test_it_fits_the_screen(both):
    lines = both[2].lines()
    assert 12 <= len(lines) <= 16
    assert all(len(line) <= 110 and line.isprintable() for line in lines)
    assert not any(line.endswith("…") for line in lines)


def test_what_is_too_long_for_a_line_goes_on_in_the_next(root):
    report = report_on(root)
    dropped = {f"reason number {number}": 1000 * number for number in range(1, 7)}
    sentences = dataclasses.replace(report.sentences, dropped=dropped)
    lines = dataclasses.replace(report, sentences=sentences).lines()
    assert max(map(len, lines)) <= 110
    at = next(number for number, line in enumerate(lines) if line.startswith("  Sentences  "))
    assert lines[at + 1].startswith(" " * 13)
    said = " ".join(f"{lines[at][13:]} {lines[at + 1][13:]}".split())
    assert said == "4 of 9 kept; " + ", ".join(f"{why}: {n:,}" for why, n in dropped.items())


def test_the_lines_say_it(root):
    lines = report_on(root, SegmentSpec.paper()).lines()
    said = {line.split()[0]: line for line in lines[1:]}
    assert lines[0] == "Data of sub_9 trial000, Made Up: 1.3 min recorded"
    assert (
        "2 of 9 kept; not neural: 2, corrupted: 1, lacks a clean neighbour: 3" in said["Channels"]
    )
    assert "1024 Hz, by the triggers: median 1024.00 Hz over 4 chunks, 0.7 min" in said["Rate"]
    assert "3.1 s into the recording; paused 2 times, for 2.0 to 3.5 s" in said["Movie"]
    assert "end at 61.0 s of the movie, the transcript at 72.0 s: no signal" in said["Triggers"]
    assert "2048" in said["Attention"]
    assert "“back it up” 3×" in said["Repeats"]


def test_the_markdown_names_everything(root):
    text = report_on(root, SegmentSpec.paper()).markdown()
    for line in report_on(root, SegmentSpec.paper()).lines()[1:]:
        assert line.split(maxsplit=1)[1] in text
    for name in ("F1a2, F1a3", "DC4, TRIG1", "F1a1, F1a4, F1a6", "electrode_8"):
        assert name in text
    assert "| 20.0 to 20.1 s | 2.0 s |" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({row.count("|") for row in block.splitlines()}) == 1, block


def test_odd_names_break_neither_screen_nor_table(root):
    metadata = {"title": "A\nvery " + "long " * 40 + "title", "filename": "made-up"}
    write_json(root / "subject_metadata/sub_9_trial000_metadata.json", metadata)
    text = "One | two\x07 " + "and three " * 20
    write_transcript(root, [(1.0, 2.0, text), (5.0, 6.0, text), (9.0, 9.5, "a | b")] * 2)
    with h5py.File(root / "sub_9_trial000.h5", "r+") as file:
        file.attrs["sampling | rate"] = "a | b"
    report = report_on(root)
    assert all(len(line) <= 110 and line.isprintable() for line in report.lines())
    rows = [row for row in report.markdown().splitlines() if "\\|" in row]
    assert len(rows) == 1
    assert all(len(re.split(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_never_paused(root):
    rows = [["trigger", t, round((LEAD_S + t) * RATE_HZ)] for t in np.arange(0.125, 61, 0.125)]
    path = root / "subject_timings/sub_9_trial000_timings.csv"
    write_rows(path, ["type", "movie_time", "index"], rows)
    report = report_on(root)
    assert report.movie.pauses == ()
    assert any("never paused" in line for line in report.lines())
    assert "pause, in movie time" not in report.markdown()


def test_json_holds_it_all(both):
    values = dataclasses.asdict(both[2])
    text = json.dumps(values, allow_nan=False)
    assert json.loads(text) == json.loads(json.dumps(values))
    assert json.loads(text)["movie"]["pauses"][0].keys() == {"from_s", "to_s", "length_s"}


def test_signals_that_vanished_are_explained(root):
    recording = open_brain_treebank(root)
    recording.files["signals"].unlink()
    with pytest.raises(UserError, match=r"^cannot read .*sub_9_trial000.h5 as HDF5.*unzip") as e:
        select_segments(recording, SegmentSpec.literal())
    assert "\n" not in str(e.value)
