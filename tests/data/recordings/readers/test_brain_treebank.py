from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssense.data.recordings.data_report import data_report
from ssense.data.recordings.electrodes import montage
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank as opened
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import (
    WHY_NO_SEGMENT,
    SegmentSpec,
    kept_by_length,
    segment_spec,
    select_segments,
)
from ssense.data.recordings.timeline import USUAL_RATES_HZ, Timeline, rate_tolerance_hz, timeline_of
from ssense.errors import UserError
from ssense.signal.contacts import clean_label
from ssense.signal.features import features
from ssense.signal.referencing import Derivation
from ssense.signal.superlets import SuperletSpec
from ssense.specification import identity, plain

RATE_HZ = 1024
LEAD_SAMPLES = 3 * RATE_HZ
LABELS = ["F1a1", "F1a2*", "F1_a3#", "F1a4", "DC4", "TRIG1"]
ONSETS_S = (4.0, 8.0, 12.5)
WORD_S = 0.4

# Contacts as recorded, unfiltered, so that values can be checked one by one.
PLAIN = SegmentSpec(electrodes="all", reference="none", line_hz=None)


def write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def token_rows(onsets_s=ONSETS_S) -> list[list]:
    """Two words and a particle per sentence: start, end, sentence, sentence_idx, is_onset."""
    rows = []
    for number, onset_s in enumerate(onsets_s):
        text = f"Sentence number {number}."
        rows += [
            [onset_s, onset_s + 0.2, text, 10 * number, 1.0],
            ["", "", text, 10 * number, 0.0],
            [onset_s + 0.201, onset_s + WORD_S, text, 10 * number, 0.0],
        ]
    return rows


def write_transcript(root: Path, rows: list[list], columns=None) -> None:
    columns = columns or ["start", "end", "sentence", "sentence_idx", "is_onset"]
    write_rows(root / "transcripts/made-up/features.csv", columns, rows)


def write_timings(root: Path, rows: list[list]) -> None:
    path = root / "subject_timings/sub_9_trial000_timings.csv"
    write_rows(path, ["type", "movie_time", "index"], rows)


def steady_timings(until_s: float = 20.0) -> list[list]:
    times_s = np.arange(0.1, until_s, 0.1)
    return [["trigger", f"{t:.6f}", LEAD_SAMPLES + round(t * RATE_HZ)] for t in times_s]


def write_signals(path: Path, signals: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, signal in enumerate(signals):
            file.create_dataset(
                f"data/electrode_{number}", data=signal, compression="gzip", chunks=(4096,)
            )


def noise(n_channels: int = len(LABELS), seconds: int = 26) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 50, (n_channels, seconds * RATE_HZ))


def write_recording(root: Path, labels: list[str], corrupted: list[str]) -> Path:
    """A complete recording of 26 s with three sentences and steady triggers."""
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    write_json(root / "corrupted_elec.json", {"sub_9": corrupted})
    metadata = {"title": "Made Up", "filename": "made-up"}
    write_json(root / "subject_metadata/sub_9_trial000_metadata.json", metadata)
    write_timings(root, steady_timings())
    write_transcript(root, token_rows())
    write_signals(root / "sub_9_trial000.h5", noise(len(labels)))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_recording(tmp_path, LABELS, ["DC4*"])


# ---------------------------------------------------------------- the recording and its quirks


def test_a_recording_lists_its_cleaned_neural_electrodes(root):
    recording = opened(root)
    assert recording.electrodes == ("F1a1", "F1a2", "F1a3", "F1a4")
    assert recording.title == "Made Up"
    assert (recording.n_samples, recording.sampling_rate_hz) == (26 * RATE_HZ, 1024.0)


def test_marks_are_stripped_on_both_sides_of_the_corrupted_list(root):
    write_json(root / "corrupted_elec.json", {"sub_9": ["F1a_1*", "DC4"]})
    recording = opened(root)
    assert recording.corrupted == {"F1a1"}
    assert recording.clean_electrodes == ("F1a2", "F1a3", "F1a4")


@pytest.mark.parametrize(
    ("label", "clean"), [("RT3aHa1*", "RT3aHa1"), ("RT2aA11#", "RT2aA11"), ("F1*0Fa5", "F10Fa5")]
)
def test_labels_of_the_real_files_are_cleaned(label, clean):
    assert clean_label(label) == clean


def test_auxiliary_channels_are_left_out_in_any_case(root):
    labels = ["dc1", "F1a1", "*DC_2#", "F1a2", "Trig3", "F1a3"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    recording = opened(root)
    assert recording.electrodes == ("F1a1", "F1a2", "F1a3")
    assert recording.channel_of == {"F1a1": 1, "F1a2": 3, "F1a3": 5}


def test_a_title_that_is_none_is_the_movie_s_folder(root):
    for title in (None, 7, "", " \n"):
        metadata = {"title": title, "filename": "made-up", "year": 2015}
        write_json(root / FILES["metadata"], metadata)
        assert opened(root).title == "made-up"


def test_signals_may_lie_in_a_folder_of_their_own_and_the_digest_stays(root):
    digest = opened(root).digest
    (root / "all_subject_data").mkdir()
    (root / "sub_9_trial000.h5").rename(root / "all_subject_data/sub_9_trial000.h5")
    after = opened(root)
    assert after.files["signals"].parent.name == "all_subject_data"
    assert after.digest == digest


@pytest.mark.parametrize(
    "file",
    [
        "corrupted_elec.json",
        "sub_9_trial000.h5",
        "electrode_labels/sub_9/electrode_labels.json",
        "subject_metadata/sub_9_trial000_metadata.json",
        "subject_timings/sub_9_trial000_timings.csv",
        "transcripts/made-up/features.csv",
    ],
)
def test_the_digest_changes_with_every_file(root, file):
    before = opened(root).digest
    if file.endswith(".h5"):
        signals = noise()
        signals[0, 0] += 1
        write_signals(root / file, signals)
    else:
        (root / file).write_text((root / file).read_text() + "\n")
    assert opened(root).digest != before


def test_a_recording_whose_files_have_moved_is_the_same(root, tmp_path):
    recording = opened(root)
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    moved = recording.moved(elsewhere)
    assert {path.is_relative_to(elsewhere) for path in moved.files.values()} == {True}
    assert moved.digest == recording.digest
    shutil.rmtree(elsewhere)


def test_datasets_without_a_label_are_tolerated_and_ignored(root):
    write_signals(root / "sub_9_trial000.h5", noise(len(LABELS) + 1))
    assert opened(root).electrodes == ("F1a1", "F1a2", "F1a3", "F1a4")


def test_only_numbered_datasets_count(root):
    with h5py.File(root / "sub_9_trial000.h5", "a") as file:
        for name in ("electrode_00", "electrode_+1", "electrode_7x", "electrode_", "electrode_²"):
            file[f"data/{name}"] = np.zeros(3)
        file["electrode_6"] = np.zeros(3)
    assert opened(root).n_samples == 26 * RATE_HZ


@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "i2", "i4", ">i4", "u1"])
def test_samples_may_be_stored_as_any_type_of_number(root, dtype):
    stored = np.abs(noise()).astype(dtype)
    write_signals(root / "sub_9_trial000.h5", stored)
    recording = opened(root)
    (signal,) = recording.read_channel("F1a3", [(100, 9000)])
    assert signal.dtype == np.float64
    np.testing.assert_array_equal(signal, stored[2, 100:9000].astype(np.float64))


def test_rate_attributes_are_not_believed(root):
    with h5py.File(root / "sub_9_trial000.h5", "a") as file:
        for item in (file, file["data"], file["data/electrode_0"]):
            item.attrs.update({"sampling_rate": 2048, "fs": "fast", "orig_data_hash": "0a"})
    assert opened(root).sampling_rate_hz == 1024.0


def test_the_surplus_of_sub_2_is_tolerated(root):
    write_json(
        root / "electrode_labels/sub_9/electrode_labels.json", [f"F1a{i}" for i in range(154)]
    )
    write_signals(root / "sub_9_trial000.h5", np.zeros((164, 26 * RATE_HZ), np.float32))
    assert len(opened(root).electrodes) == 154


def test_columns_may_come_in_any_order_among_others(root):
    expected = select_segments(opened(root), PLAIN)
    rows = [["é", *row[::-1]] for row in token_rows()]
    write_transcript(root, rows, ["", "is_onset", "sentence_idx", "sentence", "end", "start"])
    timings = [[row[2], "x", row[0], row[1]] for row in steady_timings()]
    path = root / "subject_timings/sub_9_trial000_timings.csv"
    write_rows(path, ["index", "trig_type", "type", "movie_time"], timings)
    segments = select_segments(opened(root), PLAIN)
    np.testing.assert_array_equal(segments.start, expected.start)
    assert segments.text == expected.text


def test_timing_rows_without_a_time_or_an_index_are_left_out(root):
    expected = select_segments(opened(root), PLAIN)
    rows = [[kind, t, f"{i}.0" if n % 2 else i] for n, (kind, t, i) in enumerate(steady_timings())]
    rows += [["trigger", "", 9000], ["trigger", 5.0, ""], ["pause", "nan", "NaN"], ["", "", ""]]
    rows += [["trigger", "inf", 9000], ["trigger", 5.0, -1], ["trigger", 5.0, "1e300"]]
    rows += [["trigger", "1e300", 24000]]  # where 10 s later is the same time
    write_timings(root, rows)
    segments = select_segments(opened(root), PLAIN)
    np.testing.assert_array_equal(segments.start, expected.start)
    assert segments.dropped == {}


# ---------------------------------------------------------------- sentences


def test_sentences_are_cut_from_first_onset_to_last_end_with_context(root):
    segments = select_segments(opened(root), PLAIN)
    assert segments.sentence_idx.tolist() == [0, 10, 20]
    assert segments.text == tuple(f"Sentence number {i}." for i in range(3))
    np.testing.assert_allclose(segments.onset_s, ONSETS_S)
    np.testing.assert_allclose(segments.offset_s, np.add(ONSETS_S, WORD_S))
    # 3 s lead-in; the sentence at 4 s begins, with 0.5 s of context, at 6.5 s.
    assert segments.start[0] == 6.5 * RATE_HZ
    assert segments.stop[0] == round((3 + 4 + WORD_S + 1) * RATE_HZ)
    assert segments.n_samples == 1950  # 1.9 s are 1946 samples, rounded up to a multiple of 50
    assert len(segments) == 3
    assert segments.dropped == {}


def test_windows_of_one_length_begin_where_the_segments_do_and_need_no_padding(root):
    recording = opened(root)
    spec = dataclasses.replace(PLAIN, window_s=2.5)
    segments, usual = select_segments(recording, spec), select_segments(recording, PLAIN)
    assert np.array_equal(segments.start, usual.start)
    assert set(segments.stop - segments.start) == {segments.n_samples} == {2600}  # 2,560 rounded up
    signals = read_segments(recording, segments, spec, [0, 1, 2])
    for row, start in enumerate(segments.start):
        expected = noise()[:4, start : start + 2600].astype(np.float32)
        np.testing.assert_array_equal(signals[row], expected)


def test_windows_that_leave_the_file_are_dropped(root):
    segments = select_segments(opened(root), dataclasses.replace(PLAIN, window_s=16))
    assert len(segments) == 1
    assert segments.dropped == {"leaves the file": 2}


def test_identical_neighbours_stay_apart(root):
    rows = [[*row[:2], "Back it up.", *row[3:]] for row in token_rows()]
    write_transcript(root, rows)
    assert select_segments(opened(root), PLAIN).text == ("Back it up.",) * 3


def test_without_sentence_numbers_onsets_tell_sentences_apart(root):
    rows = [[*row[:3], row[4]] for row in token_rows()]
    write_transcript(root, rows, ["start", "end", "sentence", "is_onset"])
    segments = select_segments(opened(root), PLAIN)
    assert segments.sentence_idx.tolist() == [0, 1, 2]
    np.testing.assert_allclose(segments.onset_s, ONSETS_S)


def test_onsets_may_be_blank_and_tokens_may_precede_the_first(root):
    rows = [[*row[:3], row[4] or ""] for row in token_rows()]
    write_transcript(
        root, [[1.0, 1.2, "Cut.", ""], *rows], ["start", "end", "sentence", "is_onset"]
    )
    segments = select_segments(opened(root), PLAIN)
    assert segments.text == tuple(f"Sentence number {i}." for i in range(3))
    np.testing.assert_allclose(segments.onset_s, ONSETS_S)


def test_tokens_without_a_sentence_number_belong_to_no_sentence(root):
    rows = [[*row[:3], f"{row[3]}.0", row[4]] for row in token_rows()]
    rows += [[1.0, 19.0, "Nowhere.", number, 1.0] for number in ("", "nan", -1, 10.5, "inf", 1e300)]
    write_transcript(root, rows)
    segments = select_segments(opened(root), PLAIN)
    assert segments.sentence_idx.tolist() == [0, 10, 20]
    np.testing.assert_allclose(segments.offset_s, np.add(ONSETS_S, WORD_S))
    assert segments.dropped == {}


def test_a_token_counts_with_both_its_times_in_order(root):
    rows = token_rows()
    rows += [[3.0, "", "", 0, 0.0], ["", 9.0, "", 0, 0.0], [9.0, 3.0, "", 0, 0.0]]
    rows += [["-inf", 5.0, "", 0, 0.0], [-1.0, 5.0, "", 0, 0.0], [4.4, 4.4, "", 0, 0.0]]
    write_transcript(root, rows)
    segments = select_segments(opened(root), PLAIN)
    np.testing.assert_allclose(segments.onset_s, ONSETS_S)
    np.testing.assert_allclose(segments.offset_s, np.add(ONSETS_S, WORD_S))


def test_a_sentence_without_text_is_dropped(root):
    blank = {10: "", 20: " \t"}
    rows = [[*row[:2], blank.get(row[3], row[2]), *row[3:]] for row in token_rows()]
    rows[0][2] = ""  # the sentence's other tokens have it
    write_transcript(root, rows)
    segments = select_segments(opened(root), PLAIN)
    assert segments.text == ("Sentence number 0.",)
    assert segments.dropped == {"no text": 2}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_transcripts_as_other_programs_write_them(root, line_end):
    rows = [["é", "inf", "-inf", *row] for row in token_rows()]
    rows[0][5] = rows[2][5] = 'He said: "No,\nAnt-Man, 4 €."'
    path = root / FILES["transcript"]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        header = ["", "pitch", "rms", "start", "end", "sentence", "sentence_idx", "is_onset"]
        csv.writer(file, lineterminator=line_end).writerows([header, *rows])
    segments = select_segments(opened(root), PLAIN)
    assert segments.text[0] == 'He said: "No,\nAnt-Man, 4 €."'
    assert segments.text[1:] == ("Sentence number 1.", "Sentence number 2.")


def test_reasons_for_dropping_are_counted(root):
    rows = token_rows()
    rows += [["", "", "Never timed.", 31, 1.0], ["inf", "nan", "Nor this.", 32, 1.0]]
    rows += [[15.0, 14.0, "Backwards.", 30, 1.0], [25.0, 25.5, "After the last trigger.", 33, 1.0]]
    rows += [[13.0, 17.0, "Four seconds.", 34, 1.0]]
    rows += [[0.1, 0.3, "First.", 35, 1.0], [18.5, 19.8, "Last.", 36, 1.0]]
    write_transcript(root, rows)
    spec = SegmentSpec(
        electrodes="all", reference="none", context_before_s=3.5, context_after_s=3.5
    )
    segments = select_segments(opened(root), spec)
    assert segments.sentence_idx.tolist() == [0, 10, 20]
    assert segments.dropped == {"no aligned word": 4, "too long": 1, "leaves the file": 2}
    assert list(segments.dropped) == ["no aligned word", "too long", "leaves the file"]
    assert segments.left_out == dict.fromkeys([30, 31, 32, 33], "no aligned word") | {
        34: "too long",
        35: "leaves the file",
        36: "leaves the file",
    }


@pytest.mark.parametrize("overflow", ["drop", "truncate", "error"])
def test_segments_longer_than_the_padding_are_treated_as_asked(root, overflow):
    write_transcript(root, [*token_rows(), [14.0, 15.0, "Longer.", 40, 1.0]])
    spec = SegmentSpec(
        electrodes="all", reference="none", line_hz=None, pad_to=2000, overflow=overflow
    )
    recording = opened(root)
    if overflow == "error":
        with pytest.raises(UserError, match=r"sentence 40 spans 2560 samples.* pad_to = 2000"):
            select_segments(recording, spec)
        return
    segments = select_segments(recording, spec)
    assert segments.n_samples == 2000
    assert segments.dropped == ({"overflow": 1} if overflow == "drop" else {})
    lengths = segments.stop - segments.start
    assert lengths.tolist() == ([1946, 1946, 1946] + ([2000] if overflow == "truncate" else []))


def test_sentences_that_straddle_a_pause_are_dropped(root):
    # Paused at 8.2 s for 2 s: within the second sentence (8.0 to 8.4 s) only.
    jump = 2 * RATE_HZ
    rows = [[k, t, i + jump * (float(t) > 8.2)] for k, t, i in steady_timings()]
    at = LEAD_SAMPLES + round(8.25 * RATE_HZ)
    rows += [["pause", "8.18", at], ["unpause", "8.18", at + jump]]
    write_timings(root, rows)
    segments = select_segments(opened(root), PLAIN)
    assert segments.sentence_idx.tolist() == [0, 20]
    assert segments.dropped == {"straddles a pause": 1}
    assert segments.start[1] == (3 + 2 + 12.5 - 0.5) * RATE_HZ


CONTEXTS_S = [0, 0.3, 4.0, 7.0, 1e4]


def test_any_context_keeps_a_sentence_or_names_the_reason(root):
    jump = 2 * RATE_HZ  # paused at 11 s, between two sentences
    write_timings(root, [[k, t, i + jump * (float(t) > 11)] for k, t, i in steady_timings()])
    write_transcript(root, [*token_rows(), [15.0, 15.0, "At once.", 40, 1.0]])
    recording = opened(root)
    seen = set()
    for before_s, after_s, window_s in product(CONTEXTS_S, CONTEXTS_S, [None, 0.01, 2.0, 1e4]):
        spec = replace(PLAIN, context_before_s=before_s, context_after_s=after_s, window_s=window_s)
        seen |= check_context(recording, spec)
    assert seen == {"no duration", "straddles a pause", "leaves the file"}


def check_context(recording: Recording, spec: SegmentSpec) -> set[str]:
    """Compare the segments and reasons of a context with the times of four sentences."""
    before_s, after_s, length = spec.context_before_s, spec.context_after_s, spec.window_s or 0
    expected = {}
    for number, onset_s in zip([0, 10, 20, 40], [*ONSETS_S, 15.0], strict=True):
        at = 3 + onset_s + 2 * (onset_s > 11)  # seconds of the file
        spoken_s = 0.0 if number == 40 else WORD_S
        start, stop = at - before_s, at + (length - before_s if length else spoken_s + after_s)
        if start == stop:
            expected[number] = "no duration"
        elif start < 3 + 11.1 + 2 and stop > 3 + 11:
            expected[number] = "straddles a pause"
        elif start < 0 or stop > 26:
            expected[number] = "leaves the file"
    if len(expected) == 4:
        counts = Counter(expected.values())
        shown = [f"{why}: {counts[why]}" for why in WHY_NO_SEGMENT if why in counts]
        refuse(lambda: select_segments(recording, spec), "none of the 4 sentences", *shown)
        return {*expected.values()}
    segments = select_segments(recording, spec)
    assert segments.left_out == expected
    signals = read_segments(recording, segments, spec, range(len(segments)))
    assert signals.shape == (4 - len(expected), 4, segments.n_samples)
    return {*expected.values()}


# ---------------------------------------------------------------- the length rules


def antman() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[2] / "antman_sentence_timings.csv"
    table = np.genfromtxt(path, delimiter=",", names=True)
    return {n: table[n] for n in ("onset_s", "offset_s", "onset_sample", "offset_sample")}


def test_the_length_rules_keep_what_they_kept_of_the_real_movie():
    times = antman()
    assert len(times["onset_s"]) == 1527
    nominal = round(0.5 * 2048) + round(1.0 * 2048)
    literal = kept_by_length(**times, spec=SegmentSpec.literal(), context_samples=1536)
    paper = kept_by_length(**times, spec=SegmentSpec.paper(), context_samples=nominal)
    assert (literal.sum(), paper.sum()) == (1415, 1458)
    spans = (times["offset_sample"] - times["onset_sample"])[paper] + nominal
    assert spans.max() == 8186


def test_the_paper_assumes_2048_hz_throughout(root):
    recording = opened(root)
    spec = SegmentSpec.paper()
    assert spec.sampling_rate_hz(recording) == 2048
    assert spec.context_samples(recording) == (1024, 2048)
    assert SegmentSpec.literal().sampling_rate_hz(recording) == 1024
    segments = select_segments(recording, spec)
    assert segments.n_samples == 8200
    # The word at 8.0 s lies on a trigger; context is 0.5 s of 2048 Hz, so 1 s of this recording.
    assert abs(segments.start[1] - (LEAD_SAMPLES + 7 * RATE_HZ)) <= 1


# ---------------------------------------------------------------- alignment


def test_the_official_alignment_goes_from_the_nearest_row_at_2048_hz():
    kind = np.array(["trigger", "trigger", "pause", "unpause", "trigger"])
    times_s = np.array([10.0, 10.1, 10.08, 10.08, 10.2])
    timeline = timeline_of(kind, times_s, np.array([1000.0, 1102, 1110, 5000, 5110]))
    wanted = np.array([10.01, 10.07, 10.16, 9.9, 10.2, 10.21, np.nan])
    samples = timeline.sample_of(wanted, "official_nearest_2048")
    # Worked by hand: 1000 + 20.48; of the two rows at 10.08 the first, 1110 - 20.48; 5110 - 81.92;
    # before the first row 1000 - 204.8; the last row; nothing beyond it.
    assert samples[:5].tolist() == [1020, 1090, 5028, 795, 5110]
    assert np.isnan(samples[5:]).all()


def test_interpolation_knows_nothing_outside_the_runs():
    kind = np.array(["beginning", "trigger", "trigger", "pause", "unpause", "trigger", "trigger"])
    times_s = np.array([0.0, 1.0, 2.0, 1.95, 1.95, 3.0, 4.0])
    samples = np.array([0.0, 100, 200, 210, 900, 1000, 1100])
    timeline = timeline_of(kind, times_s, samples)
    found = timeline.sample_of(np.array([0.5, 1.5, 2.0, 2.5, 3.25, 4.1]), "interpolate")
    np.testing.assert_array_equal(found, [np.nan, 150, 200, np.nan, 1025, np.nan])
    np.testing.assert_array_equal(timeline.pauses(), [[200, 1000]])


def test_the_rate_is_measured_in_runs_too_short_for_chunks():
    times_s = np.arange(0.1, 60, 0.1)
    # Paused every 4 s for 7 s.
    rows = [("trigger", t, 1000 * (t + 7 * (t // 4))) for t in times_s]
    rows += [("pause", at, 1000 * (at + 7 * (at // 4 - 1)) - 1) for at in range(4, 60, 4)]
    kind, movie_time_s, sample = zip(*rows, strict=True)
    timeline = timeline_of(np.array(kind), np.array(movie_time_s), np.array(sample))
    assert len(timeline.runs) == 15
    assert timeline.sampling_rate_hz() == 1000.0


TUCKER_DAVIS_HZ = 24414.0625


def triggers(rate_hz: float, seconds: float, jitter_samples: float, seed: int = 0) -> Timeline:
    """Triggers every 0.1 s, each noted some samples too early or too late."""
    generator = np.random.default_rng(seed)
    times_s = np.arange(0.1, seconds, 0.1)
    jitter = generator.normal(0, jitter_samples, len(times_s))
    samples = np.rint(5000 + times_s * rate_hz + jitter)
    return timeline_of(np.full(len(times_s), "trigger"), times_s, samples)


@pytest.mark.parametrize("rate_hz", [250.0, 256.0, 400.0, 500.0, *USUAL_RATES_HZ[5:10]])
# As in the published recordings, 33 samples over 1.8 hours; and ten minutes of better triggers.
@pytest.mark.parametrize(("seconds", "jitter"), [(6400, 33), (600, 10), (60, 3), (20, 0)])
def test_usual_rates_are_found_in_spite_of_the_triggers_jitter(rate_hz, seconds, jitter):
    for seed in range(3):
        assert triggers(rate_hz, seconds, jitter, seed).sampling_rate_hz() == rate_hz


@pytest.mark.parametrize("divisor", [80, 48, 40, 32, 24, 20, 16, 12, 8, 4])
@pytest.mark.parametrize(("seconds", "jitter"), [(6400, 33), (600, 10), (60, 3)])
def test_tucker_davis_s_rates_are_not_taken_for_powers_of_two(divisor, seconds, jitter):
    found_hz = triggers(TUCKER_DAVIS_HZ / divisor, seconds, jitter).sampling_rate_hz()
    assert found_hz == pytest.approx(TUCKER_DAVIS_HZ / divisor, abs=0.01)


@pytest.mark.parametrize("rate_hz", [1019.2, 1500.0, 2055.0, 900.0, 505.0, 252.5, 499.5, 600.0])
def test_other_rates_stay_as_measured(rate_hz):
    found_hz = triggers(rate_hz, 6400, 10).sampling_rate_hz()
    assert found_hz == pytest.approx(rate_hz, abs=0.3)


def test_few_bad_triggers_do_not_decide_between_two_rates():
    """508.6 and 512 Hz are both within the error of a minute of triggers 50 samples off."""
    found_hz = [triggers(510.3, 60, 20, seed).sampling_rate_hz() for seed in range(5)]
    assert not {512.0, TUCKER_DAVIS_HZ / 48}.intersection(found_hz)
    assert rate_tolerance_hz(triggers(510.3, 60, 20).runs) > 1.7


def test_the_tolerance_covers_the_error():
    wrong = [
        abs(triggers(777.7, 300, 20, seed).sampling_rate_hz() - 777.7)
        > rate_tolerance_hz(triggers(777.7, 300, 20, seed).runs)
        for seed in range(100)
    ]
    assert sum(wrong) <= 3


# ---------------------------------------------------------------- reading signals


def test_plain_segments_are_the_stored_samples_and_zeros(root):
    recording = opened(root)
    segments = select_segments(recording, PLAIN)
    signals = read_segments(recording, segments, PLAIN, [2, 0])
    assert signals.dtype == np.float32
    assert signals.shape == (2, 4, segments.n_samples)
    stored = noise()
    for place, row in enumerate([2, 0]):
        start, stop = segments.start[row], segments.stop[row]
        expected = stored[:4, start:stop].astype(np.float32)
        np.testing.assert_array_equal(signals[place, :, : stop - start], expected)
        assert not signals[place, :, stop - start :].any()


def test_the_laplacian_subtracts_the_mean_of_both_neighbours(root):
    recording = opened(root)
    spec = SegmentSpec(line_hz=None)
    segments = select_segments(recording, spec)
    assert segments.electrodes == ("F1a2", "F1a3")
    signals = read_segments(recording, segments, spec, [1])
    window = noise()[:, segments.start[1] : segments.stop[1]]
    expected = window[1:3] - (window[[0, 1]] + window[[2, 3]]) / 2
    np.testing.assert_allclose(signals[0, :, : window.shape[1]], expected, rtol=1e-5, atol=1e-4)


def test_a_corrupted_contact_takes_its_neighbours_laplacians_with_it(root):
    write_json(root / "corrupted_elec.json", {"sub_9": ["F1a4#"]})
    recording = opened(root)
    assert select_segments(recording, SegmentSpec()).electrodes == ("F1a2",)
    clean = SegmentSpec(reference="none")
    assert select_segments(recording, clean).electrodes == ("F1a1", "F1a2", "F1a3")


@pytest.mark.parametrize("spec", [SegmentSpec.literal(), SegmentSpec.paper()])
def test_a_row_does_not_depend_on_the_others(root, spec):
    # Sentences far apart, so that some rows are read in stretches of their own; a large offset
    # makes the filter's start as visible as it can be.
    signals = noise(seconds=100) + 500.0
    signals += 30 * np.sin(2 * np.pi * 60 * np.arange(signals.shape[1]) / RATE_HZ)
    write_signals(root / "sub_9_trial000.h5", signals)
    write_timings(root, steady_timings(90))
    write_transcript(root, token_rows((2.0, 12.0, 13.0, 40.0, 41.0, 85.0)))
    recording = opened(root)
    segments = select_segments(recording, spec)
    together = read_segments(recording, segments, spec, range(len(segments)))
    size = np.abs(together).max()
    for rows in ([3], [4, 2], [5, 5, 0]):
        alone = read_segments(recording, segments, spec, rows)
        np.testing.assert_allclose(alone, together[rows], rtol=1e-6, atol=1e-6 * size)


def test_the_notch_removes_the_mains(root):
    recording = opened(root)
    spec = SegmentSpec(electrodes="all", reference="none")
    segments = select_segments(recording, spec)  # which would not take what comes now
    time_s = np.arange(26 * RATE_HZ) / RATE_HZ
    mains = np.tile(np.sin(2 * np.pi * 60 * time_s), (len(LABELS), 1))
    write_signals(root / "sub_9_trial000.h5", mains)
    assert np.abs(read_segments(recording, segments, spec, [1, 2])).max() < 1e-4
    assert np.abs(read_segments(recording, segments, PLAIN, [1, 2])).max() > 0.99


def test_an_electrode_that_its_neighbours_cancel_becomes_a_spectrogram_of_zeros(root):
    signals = noise()
    signals[2] = (signals[1] + signals[3]) / 2  # F1a3 once its neighbours are subtracted
    write_signals(root / "sub_9_trial000.h5", signals)
    recording = opened(root)
    superlets = SuperletSpec(minimum_hz=10, n_frequencies=5, order_max=5)
    spec = SegmentSpec(line_hz=None)
    segments = select_segments(recording, spec)
    assert segments.electrodes == ("F1a2",)  # a channel's sound rest may still be such a segment
    cancelled = Derivation("F1a3", "F1a3", ("F1a2", "F1a4"))
    segments = replace(segments, derivations=(*segments.derivations, cancelled))
    found = read_segments(recording, segments, spec, [0])[0]
    place = segments.electrodes.index("F1a3")
    assert np.ptp(found[place, : segments.stop[0] - segments.start[0]]) == 0
    values = features(found, 1024, superlets).numpy()
    assert np.isfinite(values).all()
    assert not values[place].any()


def test_no_rows_give_no_signals(root):
    recording = opened(root)
    segments = select_segments(recording, SegmentSpec())
    shape = (0, 2, segments.n_samples)
    assert read_segments(recording, segments, SegmentSpec(), []).shape == shape


# ---------------------------------------------------------------- bad input


def refuse(action, *patterns: str) -> None:
    """The action must fail with a one-line message that holds all the patterns in order."""
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(".*".join(re.escape(part) for part in patterns), message), message
    assert re.search(
        r"(Check|Restore|Download|Give|Use|Choose|Add|Save|Set|Unzip|relax|Remove|Skip|Write|download)",
        message,
    )


def test_a_missing_folder(tmp_path):
    refuse(lambda: opened(tmp_path / "nowhere"), "nowhere is not a folder")


def test_a_folder_with_other_things(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    refuse(lambda: opened(tmp_path), "no Brain Treebank recording", "Found: holiday.jpg")


@pytest.mark.parametrize("folder", ["x" * 300, "no\0thing"])
def test_a_folder_that_cannot_be(folder, tmp_path):
    refuse(lambda: opened(tmp_path / folder), folder[:2])


@pytest.mark.parametrize("name", ["../sub_9", "sub_9/../sub_9", "/sub_9", ".", "", "sub_9\n", "*"])
def test_subject_and_trial_are_no_paths(root, name):
    refuse(lambda: opened(root, name), "no subject", "Found: sub_9. Check `subject`")
    refuse(lambda: opened(root, trial=name), "no trial", "Found: trial000. Check `trial`")


@pytest.mark.parametrize(
    "name",
    ["../made-up", "..", ".", "/made-up", "made-up/", "a\\b", "made\nup", "x" * 256, 7, []],
)
def test_the_transcript_s_folder_is_one_name_below_transcripts(root, name):
    outside = root / "made-up/features.csv"
    outside.parent.mkdir()
    outside.write_bytes((root / FILES["transcript"]).read_bytes())
    write_json(root / FILES["metadata"], {"filename": name})
    found = repr(name)[:50].split("\n")[0]
    refuse(lambda: opened(root), FILES["metadata"], "under the key filename, got", found)


def test_an_unknown_subject_or_trial_lists_what_is_there(root):
    (root / "sub_10_trial001.h5").touch()
    refuse(lambda: opened(root, "sub_11"), "no subject sub_11 in", "sub_9, sub_10")
    refuse(lambda: opened(root, trial="trial007"), "no trial trial007", "trial000")


FILES = {
    "corrupted": "corrupted_elec.json",
    "labels": "electrode_labels/sub_9/electrode_labels.json",
    "metadata": "subject_metadata/sub_9_trial000_metadata.json",
    "timings": "subject_timings/sub_9_trial000_timings.csv",
    "transcript": "transcripts/made-up/features.csv",
}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(root, name):
    (root / FILES[name]).unlink()
    refuse(lambda: opened(root), FILES[name], "is missing")


def test_missing_signals_say_where_they_were_sought(root):
    (root / "sub_9_trial000.h5").unlink()
    refuse(lambda: opened(root), "sub_9_trial000.h5 is neither in", "all_subject_data")
    (root / "sub_9_trial000.h5.zip").touch()
    refuse(lambda: opened(root), "Unzip sub_9_trial000.h5.zip")


BAD_TEXT = [
    ("corrupted", "[1, 2", "not valid JSON"),
    ("corrupted", "[]", "must hold a JSON object, got list"),
    ("corrupted", '{"subject9": []}', "has no entry sub_9. Found: subject9"),
    ("corrupted", '{"sub_9": "DC4"}', "must hold a list of names under sub_9, got 'DC4'"),
    ("labels", "{}", "must hold a JSON list, got dict"),
    ("labels", '["F1a1", 7]', "must hold a list of names, got 7 in it"),
    ("labels", "[]", "got none"),
    ("labels", '["F1a1", "*#"]', "must hold a list of names, got '*#' in it"),
    ("labels", "[1" + "0" * 5000 + "]", "not valid JSON", "5001 digits"),
    (
        "labels",
        '["DC1", "TRIG2", "DC3", "DC4", "DC5", "DC6"]',
        "names only channels that are not neural (DC1",
    ),
    ("labels", '["A1", "A1*", "A2", "A3", "A4", "A5"]', "names A1 more than once"),
    ("labels", '["A1", "A2"]', "holds 6 channels but", "names only 2"),
    ("labels", '["A1","A2","A3","A4","A5","A6","A7"]', "lacks data/electrode_6", "names 7"),
    ("metadata", '{"title": "x"}', "under the key filename, got None"),
    ("metadata", "", "not valid JSON"),
    ("timings", "type,index\ntrigger,1\n", "has no column movie_time. Found: type, index"),
    ("timings", "", "Empty CSV file"),
    ("timings", "type,movie_time,index\n", "has no trigger", "0 rows"),
    ("timings", "type,movie_time,index\nend,1,1\n", "has no trigger", "1 row."),
    ("timings", "type,movie_time,index\ntrigger,1,1\n", "has no two triggers"),
    ("timings", "type,movie_time,index\ntrigger,soon,1\n", "not the table expected", "'soon'"),
    ("timings", "type,movie_time,index\ntrigger,1\n", "Expected 3 columns, got 2"),
    ("timings", "type,index,movie_time,index\ntrigger,1,2,3\n", "has the column index 2 times"),
    (
        "timings",
        "a" * 99 + ',"b\nc"\n1,2\n',
        "has no column type",
        "Found: " + "a" * 59 + "…, b c.",
    ),
    (
        "timings",
        "type,movie_time,index\ntrigger,1,1e9\ntrigger,1.1,2e9\n",
        "its triggers give 1e+10 samples per second of movie",
    ),
    ("transcript", "start,sentence_idx\n1,1\n", "has no column end, sentence. Found"),
    ("transcript", "start,end,sentence\n1,1,a\n", "neither a column sentence_idx nor is_onset"),
    ("transcript", "start,end,sentence,sentence_idx\n", "no token that belongs to a sentence"),
    ("transcript", "start,end,sentence,sentence_idx\n1,2,a,\n", "by column sentence_idx"),
    ("transcript", "start,end,sentence,sentence_idx\n1,?,a,3\n", "invalid value '?'"),
]


@pytest.mark.parametrize(("name", "text", "patterns"), [(n, t, p) for n, t, *p in BAD_TEXT])
def test_malformed_files_are_explained(root, name, text, patterns):
    (root / FILES[name]).write_text(text)
    refuse(lambda: opened(root), *patterns)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_explained(root, name, encoding):
    path = root / FILES[name]
    text = path.read_text()
    text = text.replace("Sentence", "Séntence").replace("Made", "Mäde").replace("F1a", "Föa")
    text = text.replace("DC4", "DÇ4").replace("trigger", "trïgger")
    path.write_bytes(text.encode(encoding))
    refuse(lambda: opened(root), "is not UTF-8 text")


@pytest.mark.parametrize("name", ["timings", "transcript"])
def test_a_header_in_another_encoding_is_explained(root, name):
    path = root / FILES[name]
    path.write_bytes(b"\xe9" + path.read_bytes())
    refuse(lambda: opened(root), FILES[name], "is not UTF-8 text")


def test_a_byte_order_mark_does_no_harm(root):
    for name in ("labels", "timings", "transcript"):
        path = root / FILES[name]
        path.write_bytes(path.read_text().encode("utf-8-sig"))
    assert len(select_segments(opened(root), PLAIN)) == 3


def test_a_truncated_or_foreign_signal_file(root):
    path = root / "sub_9_trial000.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuse(lambda: opened(root), "cannot read", "truncated")
    path.write_text("not HDF5")
    refuse(lambda: opened(root), "cannot read", "as HDF5")


def test_channels_of_unequal_length(root):
    with h5py.File(root / "sub_9_trial000.h5", "a") as file:
        del file["data/electrode_2"]
        file["data/electrode_2"] = np.zeros(5)
    refuse(lambda: opened(root), "electrode_2 has 5 samples", "has 26,624")


def test_a_file_without_channels(root):
    with h5py.File(root / "sub_9_trial000.h5", "w") as file:
        file["other"] = np.zeros(3)
    refuse(lambda: opened(root), "lacks data/electrode_0", "of which 0 can be found")


@pytest.mark.parametrize(
    "wrong",
    [h5py.SoftLink("/nowhere"), h5py.ExternalLink("other.h5", "/x"), "text", h5py.Empty("f8")],
)
def test_a_channel_that_holds_no_numbers(root, wrong):
    with h5py.File(root / "sub_9_trial000.h5", "a") as file:
        del file["data/electrode_4"]
        file["data/electrode_4"] = wrong
    refuse(lambda: opened(root), "sub_9_trial000.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300])
def test_values_that_are_no_numbers_name_the_channel(root, value):
    signals = noise()
    write_signals(root / "sub_9_trial000.h5", signals)
    recording = opened(root)
    segments = select_segments(recording, PLAIN)
    signals[2, 7 * RATE_HZ] = value  # or where `Recording.quality` does not look
    write_signals(root / "sub_9_trial000.h5", signals)
    read_segments(recording, segments, PLAIN, [2])  # elsewhere it does no harm
    refuse(
        lambda: read_segments(recording, segments, PLAIN, [0]),
        f"electrode F1a3 (data/electrode_2) holds {value} at sample 7168",
    )


def test_no_sentence_left_says_why(root):
    write_transcript(root, [[1.0, 6.0, "Long.", 1, 1], ["", "", "Untimed.", 2, 1]])
    refuse(
        lambda: select_segments(opened(root), PLAIN),
        "none of the 2 sentences of sub_9 trial000 (Made Up) is left",
        "no aligned word: 1, too long: 1",
    )


def test_no_electrode_left_says_why(root):
    write_json(root / "corrupted_elec.json", {"sub_9": ["F1a2"]})
    recording = opened(root)
    refuse(
        lambda: select_segments(recording, SegmentSpec()),
        "no electrode left of the 4",
        "by `electrodes` clean and `reference` laplacian",
        "corrupted: 1, lacks a clean neighbour: 3. Set `reference` to another, such as none",
    )


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("electrodes", "bipolar", "must be one of clean, all, got 'bipolar'"),
        ("reference", "ear", "one of laplacian, bipolar, shaft-average, average, none, got 'ear'"),
        ("overflow", "", "must be one of drop, error, truncate, got ''"),
        ("pad_to", 0, "must be a whole number of at least 1, got 0"),
        ("pad_multiple", 2.5, "must be a whole number of at least 1, got 2.5"),
        ("line_hz", float("nan"), "must be a finite number above 0, got nan"),
        ("notch_quality", "high", "must be a finite number above 0, got 'high'"),
        ("notch_highest_hz", 50.0, "must be at least line_hz, 60, got 50"),
        ("context_after_s", -1.0, "must be a number of at least 0, got -1.0"),
        ("context_before_s", 1e300, "must be at most 5.184e+06 s, the longest recording"),
        ("window_s", 0, "must be a finite number above 0, got 0"),
    ],
)
def test_specifications_outside_the_choices(field, value, expected):
    with pytest.raises(ValueError, match=f"^{field} .*{re.escape(expected)}"):
        SegmentSpec(**{field: value})


# ---------------------------------------------------------------- references

GRID = tuple(f"G{number}" for number in range(1, 20))
SHAFTS = ("A2", "A3", "A4", "B1", "C1", "C2", "Cz")
MIXED = ["A1", "A2", "A3*", *SHAFTS[2:], "D1-D2", *GRID]
SUBTRACTED = {
    "laplacian": {"A3": ["A2", "A4"]},
    "bipolar": {"A2-A3": ["A3"], "A3-A4": ["A4"], "C1-C2": ["C2"]},
    "shaft-average": {
        **dict.fromkeys(("A2", "A3", "A4"), ("A2", "A3", "A4")),
        **dict.fromkeys(("C1", "C2"), ("C1", "C2")),
        **dict.fromkeys(GRID, GRID),
    },
    "average": dict.fromkeys((*SHAFTS, *GRID), (*SHAFTS, *GRID)),
    "none": dict.fromkeys(name.strip("*") for name in MIXED[1:]),
}
LEFT_OUT = {
    "laplacian": {
        **dict.fromkeys(["A2", "A4", "B1", "C1", "C2"], "lacks a clean neighbour"),
        **dict.fromkeys(GRID, "on a grid or strip"),
        "Cz": "not named by shaft and number",
    },
    "bipolar": {
        **dict.fromkeys(["A4", "B1", "C2"], "lacks a clean next contact"),
        **dict.fromkeys(GRID, "on a grid or strip"),
        "Cz": "not named by shaft and number",
    },
    "shaft-average": {"B1": "alone on its shaft", "Cz": "not named by shaft and number"},
    "average": {},
    "none": {},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Shafts, one with a corrupted contact, a name of no shaft, a pair, and a grid."""
    return opened(write_recording(tmp_path_factory.mktemp("mixed"), MIXED, ["A1"]))


@pytest.mark.parametrize("reference", SUBTRACTED)
def test_electrodes_are_contacts_minus_what_the_reference_says(mixed, reference):
    spec = SegmentSpec(reference=reference, line_hz=None)
    segments = select_segments(mixed, spec)
    assert segments.electrodes == tuple(SUBTRACTED[reference])
    found = read_segments(mixed, segments, spec, [2, 0])
    stored = dict(zip((name.strip("*") for name in MIXED), noise(len(MIXED)), strict=True))
    for place, row in enumerate([2, 0]):
        window = slice(segments.start[row], segments.stop[row])
        for signal, (name, others) in zip(found[place], SUBTRACTED[reference].items(), strict=True):
            contact = name if name in stored else name.split("-")[0]
            expected = stored[contact] - (np.mean([stored[n] for n in others], 0) if others else 0)
            np.testing.assert_allclose(signal[: segments.stop[row] - segments.start[row]],
                                       expected[window], rtol=1e-5, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("reference", SUBTRACTED)
def test_every_contact_is_an_electrode_or_is_left_out_for_a_reason(mixed, reference):
    found = montage(mixed, "clean", reference)
    expected = {"A1": "corrupted"} | LEFT_OUT[reference]
    if reference != "none":
        expected["D1-D2"] = "pair of contacts"
    assert found.left_out == expected
    used = [each.contact for each in found.derivations]
    assert sorted([*used, *found.left_out]) == sorted(mixed.electrodes)
    spec = SegmentSpec(reference=reference)
    report = data_report(mixed, select_segments(mixed, spec), spec)
    assert sum(map(len, report.channels.left_out.values())) == len(expected)


def test_all_contacts_are_also_those_that_are_corrupted(mixed):
    found = select_segments(mixed, SegmentSpec(electrodes="all", reference="bipolar"))
    assert found.electrodes == ("A1-A2", "A2-A3", "A3-A4", "C1-C2")


def test_an_electrode_that_its_average_cancels_is_left_out(root):
    signals = noise()
    signals[2] = (signals[0] + signals[1] + signals[3]) / 3  # as if interpolated
    write_signals(root / "sub_9_trial000.h5", signals)
    found = montage(opened(root), "clean", "shaft-average")
    assert found.left_out == {"F1a3": "nothing left by the reference"}
    others = ("F1a1", "F1a2", "F1a3", "F1a4")  # it is a contact of the shaft all the same
    assert {each.subtracted for each in found.derivations} == {others}


@pytest.mark.parametrize("reference", ["shaft-average", "average"])
def test_a_value_that_is_no_number_names_its_channel_also_in_a_mean(root, reference):
    recording = opened(root)
    spec = SegmentSpec(reference=reference, line_hz=None)
    segments = select_segments(recording, spec)
    signals = noise()
    signals[3, 7 * RATE_HZ] = np.nan
    write_signals(root / "sub_9_trial000.h5", signals)
    refuse(
        lambda: read_segments(recording, segments, spec, [0]), "electrode F1a4 (data/electrode_3)"
    )


def test_corrupted_contacts_alone_are_named_as_the_reason(root):
    write_json(root / "corrupted_elec.json", {"sub_9": ["F1a1", "F1a2", "F1a3", "F1a4"]})
    recording = opened(root)
    refuse(
        lambda: select_segments(recording, SegmentSpec(reference="none")),
        "`electrodes` clean and `reference` none; corrupted: 4. Set `electrodes` to all.",
    )


@pytest.mark.parametrize(
    ("formerly", "electrodes", "reference"),
    [("clean-laplacian", "clean", "laplacian"), ("clean", "clean", "none"), ("all", "all", "none")],
)
def test_specifications_of_earlier_shards_are_read_as_they_were_meant(
    formerly, electrodes, reference
):
    settings = plain(SegmentSpec.paper()) | {"electrodes": formerly}
    del settings["reference"]
    expected = replace(SegmentSpec.paper(), electrodes=electrodes, reference=reference)
    assert segment_spec(settings) == expected
    assert segment_spec(plain(expected)) == expected
    refuse(lambda: segment_spec(settings | {"electrodes": "few"}), "electrodes is 'few'")


def test_the_default_specification_keeps_its_identity():
    assert identity(SegmentSpec()) == {}
    assert identity(SegmentSpec(reference="none")) == {"reference": "none"}


# ---------------------------------------------------------------- names


LEFT_AND_RIGHT = ["A1", "A2", "A3", "A\u20191", "A\u20192", "A\u20193"]


def test_a_corrupted_contact_is_found_however_it_is_spelt(root):
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", LEFT_AND_RIGHT)
    write_json(root / "corrupted_elec.json", {"sub_9": ["A'2", "POL A1"]})
    assert opened(root).corrupted == {"A\u20192", "A1"}


def test_the_corrupted_list_is_read_whatever_its_spelling_and_names_of_nothing_are_told(root):
    labels = ["E\u03011", "\u00c92", "A3", "a4", "A4", "B\uff071", "DC4", "E1_8"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    listed = ["\u00c91", "E\u03012", "a03", "A4", "b'1", "DC4", "E18", "Z9"]
    write_json(root / "corrupted_elec.json", {"sub_9": listed})
    write_signals(root / "sub_9_trial000.h5", noise(len(labels)))
    recording = opened(root)
    assert recording.corrupted == {"E\u03011", "\u00c92", "A3", "A4", "B\uff071"}
    assert recording.unknown_bad == ("E18", "Z9")
    spec = SegmentSpec(reference="none")
    segments = select_segments(recording, spec)
    text = " ".join(" ".join(data_report(recording, segments, spec).lines()).split())
    assert "2 names in the list of corrupted channels are no channel's: E18, Z9" in text


def test_names_that_say_nothing_of_shafts_are_told(root):
    labels = ["1", "2", "3", "A1-A2", "A2-A3", "Cz"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    recording = opened(root)
    refuse(
        lambda: select_segments(recording, SegmentSpec()),
        "pair of contacts: 2, not named by shaft and number: 4. Set `reference` to another",
    )
    spec = SegmentSpec(reference="none")
    segments = select_segments(recording, spec)
    assert segments.electrodes == tuple(labels)
    *_, doubt = data_report(recording, segments, spec).channels.doubts
    assert doubt == "used as electrodes, though not named by shaft and number: 1, 2, 3, Cz"


def test_an_underscore_between_two_contacts_of_a_shaft_makes_a_pair():
    assert clean_label("A1_A2") == "A1-A2"
    assert clean_label("A'1_A'2#") == "A'1-A'2"
    assert (clean_label("F1_a3"), clean_label("A_1")) == ("F1a3", "A1")


@pytest.mark.parametrize("label", ["A" + "9" * 5000, "A" * 30_000, "1_" * 20_000])
def test_a_name_of_thousands_of_characters_is_one_line(root, label):
    labels = root / "electrode_labels/sub_9/electrode_labels.json"
    write_json(root / "corrupted_elec.json", {"sub_9": [label]})
    refuse(lambda: opened(root), "corrupted_elec.json has a name of", "at most 100")
    write_json(labels, ["A1", "A2", "A3", "A4", "A5", label])
    refuse(lambda: opened(root), f"labels.json has a name of {len(label):,} characters")


def test_a_mark_between_words_of_a_name_tells_them_apart(root):
    labels = ["A1", "A2", "X_ECG*", "D_C4", "RFDI_EMG", "A_3"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    assert opened(root).electrodes == ("A1", "A2", "A3")


def test_a_grid_has_no_laplacian(root):
    labels = [f"G{number:02}" for number in range(1, 21)]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    write_signals(root / "sub_9_trial000.h5", noise(len(labels)))
    recording = opened(root)
    refuse(
        lambda: select_segments(recording, SegmentSpec()),
        "on a grid or strip: 20. Set `reference` to another",
    )
    assert len(select_segments(recording, SegmentSpec(reference="none")).electrodes) == 20


def test_coordinates_on_a_sheet_tell_a_small_grid(root):
    labels = ["A1", "A2", "A3", "S1", "S2", "S3", "S4"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    write_signals(root / "sub_9_trial000.h5", noise(len(labels)))
    assert select_segments(opened(root), SegmentSpec()).electrodes == (
        "A2",
        "S2",
        "S3",
    )
    path = root / "localization/elec_coords_full.csv"
    before = opened(root).digest
    rows = [["sub_9", f"A{n}", 3.5 * n, 0, 0] for n in range(1, 4)]
    rows += [["sub_9", f"S{n + 1}", 10 * (n % 2), 10 * (n // 2), 0] for n in range(4)]
    write_rows(path, ["Subject", "Electrode", "X", "Y", "Z"], rows)
    recording = opened(root)
    assert select_segments(recording, SegmentSpec()).electrodes == ("A2",)
    assert recording.digest == before  # the electrodes are in the dataset's


def test_coordinates_are_those_of_the_electrodes_that_the_table_has(root):
    path = root / "localization/elec_coords_full.csv"
    assert opened(root).coordinates == {}
    electrodes = opened(root).electrodes
    rows = [["sub_9", name, n, -n, 2.5] for n, name in enumerate(electrodes[1:])]
    rows += [["sub_9", "Z9", 1, 1, 1], ["sub_2", electrodes[0], 1, 1, 1]]
    write_rows(path, ["Subject", "Electrode", "X", "Y", "Z"], rows)
    expected = {name: (n, -n, 2.5) for n, name in enumerate(electrodes[1:])}
    assert opened(root).coordinates == expected
    assert opened(root).regions == {}
    before = opened(root).digest
    rows = [[*row, region] for row, region in zip(rows, ["STG", "", "unknown"], strict=False)]
    write_rows(path, ["Subject", "Electrode", "X", "Y", "Z", "Region"], rows)
    assert opened(root).regions == {electrodes[1]: "STG"}
    assert opened(root).digest == before


def test_two_names_for_one_contact(root):
    labels = ["F1a1", "F1a2", "F1a02", "F1a3", "DC4", "DC10"]
    write_json(root / "electrode_labels/sub_9/electrode_labels.json", labels)
    recording = opened(root)
    refuse(lambda: select_segments(recording, SegmentSpec()), "'F1a2' and 'F1a02'")


def test_a_rate_too_low_for_the_notch(root):
    write_timings(root, [["trigger", t, 100 * t] for t in range(30)])
    recording = opened(root)
    spec = SegmentSpec(electrodes="all", reference="none")
    refuse(lambda: select_segments(recording, spec), "100 samples per second", "60")
