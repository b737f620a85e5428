"""Every quirk of the published files is there, and costs a reader nothing that matters."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic.quirks import odd_screenplay
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.data.synthetic.screenplay import FEATURE_COLUMNS, compose_screenplay
from ssense.signal.contacts import clean_label

SENTENCES, ELECTRODES, RATE_HZ = 120, 9, 256


def written(root: Path, **settings) -> Path:
    spec = {"sentences": SENTENCES, "electrodes": ELECTRODES, "sampling_rate": RATE_HZ}
    write_synthetic(root, SyntheticSpec(**(spec | settings)))
    return root


@pytest.fixture(scope="module")
def quirky(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("quirky") / "made", quirks=True, coupling=0)


@pytest.fixture(scope="module")
def tidy(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("tidy") / "made", coupling=0)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tokens(quirky) -> list[dict[str, str]]:
    return table(quirky / "transcripts/synthetic/features.csv")


@pytest.fixture(scope="module")
def timings(quirky) -> list[dict[str, str]]:
    return table(quirky / "subject_timings/sub_9_trial000_timings.csv")


# ---------------------------------------------------------------- what stays


def span(recording: Recording, spec: SegmentSpec) -> tuple[np.ndarray, ...]:
    segments = select_segments(recording, spec)
    return segments.onset_s, segments.offset_s, segments.start, segments.stop


@pytest.mark.parametrize("spec", [SegmentSpec.literal(), SegmentSpec.paper()])
def test_the_same_segments_are_found_as_without_quirks(quirky, tidy, spec):
    found, expected = span(open_brain_treebank(quirky), spec), span(open_brain_treebank(tidy), spec)
    assert len(expected[0]) > 90
    np.testing.assert_array_equal(found, expected)


def test_the_signals_are_those_without_quirks_but_for_a_flat_channel(quirky, tidy):
    found, expected = open_brain_treebank(quirky), open_brain_treebank(tidy)
    assert found.electrodes == expected.electrodes
    assert (found.corrupted, expected.corrupted) == ({"F1b4"}, set())
    assert found.sampling_rate_hz == expected.sampling_rate_hz == pytest.approx(RATE_HZ, rel=1e-3)
    for electrode in found.clean_electrodes:
        signals = [r.read_channel(electrode, [(0, r.n_samples)])[0] for r in (found, expected)]
        np.testing.assert_array_equal(*signals)
        assert signals[0].std() > 10
    assert not np.any(found.read_channel("F1b4", [(0, found.n_samples)])[0])


def test_segments_can_be_read(quirky):
    recording, spec = open_brain_treebank(quirky), SegmentSpec.literal()
    signals = read_segments(recording, select_segments(recording, spec), spec, [0, 1])
    assert signals.shape[1] == 4  # F1a2 to F1a4 and F1b2: F1b3 has a corrupted neighbour
    assert np.isfinite(signals).all()
    assert signals.std(axis=-1).min() > 1


# ---------------------------------------------------------------- signals and labels


def test_the_signals_lie_in_their_own_folder_with_a_surplus_and_a_wrong_rate(quirky):
    assert not (quirky / "sub_9_trial000.h5").exists()
    labels = json.loads((quirky / "electrode_labels/sub_9/electrode_labels.json").read_text())
    with h5py.File(quirky / "all_subject_data/sub_9_trial000.h5") as file:
        assert file.attrs["sampling_rate"] == file["data"].attrs["sampling_rate"] == 2 * RATE_HZ
        assert len(file["data"]) == len(labels) + 1
        assert f"electrode_{len(labels)}" in file["data"]


def test_labels_have_marks_and_auxiliary_channels_in_between(quirky):
    labels = json.loads((quirky / "electrode_labels/sub_9/electrode_labels.json").read_text())
    assert {mark for label in labels for mark in label if mark in "*#_"} == {"*", "#", "_"}
    assert any(re.fullmatch(r".+\*.+", label) for label in labels)
    auxiliary = [i for i, label in enumerate(labels) if label.startswith(("DC", "TRIG"))]
    assert [labels[i] for i in auxiliary] == ["DC4", "TRIG1", "DC10"]
    assert 0 < auxiliary[0] < auxiliary[1] < ELECTRODES
    assert auxiliary[2] == len(labels) - 1


def test_the_corrupted_list_has_uncleaned_names_of_several_subjects(quirky):
    by_subject = json.loads((quirky / "corrupted_elec.json").read_text())
    assert {"sub_1", "sub_9", "sub_10"} == set(by_subject)
    assert {"F1b4*"} < set(by_subject["sub_9"])
    others = {clean_label(name) for name in by_subject["sub_1"]}
    assert others & set(open_brain_treebank(quirky).clean_electrodes)


# ---------------------------------------------------------------- timings


def test_timings_have_another_column_order_float_indices_and_gaps(timings):
    names = ["type", "movie_time", "start_time", "end_time", "trig_type", "index", "diff"]
    assert list(timings[0]) != names
    assert sorted(timings[0]) == sorted(names)
    assert all(re.fullmatch(r"\d+\.0", row["index"]) for row in timings)
    for name in ("trig_type", "end_time", "diff"):
        assert any(row[name] == "" for row in timings)
    assert all(row["movie_time"] for row in timings)


def test_a_pause_is_a_pair_at_one_movie_time_below_the_last_trigger(timings):
    pairs = [
        (timings[i - 1], before, after)
        for i, (before, after) in enumerate(pairwise(timings))
        if before["type"] in ("pause", "end")
    ]
    kinds = [(before["type"], after["type"]) for _, before, after in pairs]
    assert kinds == [("pause", "unpause"), ("end", "beginning")]
    for trigger, before, after in pairs:
        assert before["movie_time"] == after["movie_time"]
        assert 0 < float(trigger["movie_time"]) - float(before["movie_time"]) <= 0.057
        assert float(after["index"]) - float(before["index"]) >= 2 * RATE_HZ
    assert timings[-1]["type"] == "end"


def test_triggers_jitter_after_a_lead_in(timings):
    times_s = [float(row["movie_time"]) for row in timings if row["type"] == "trigger"]
    steps_s = np.diff(times_s)
    assert np.median(steps_s) == pytest.approx(0.1, abs=0.005)
    assert 0.003 < steps_s.std() < 0.02
    assert float(timings[0]["index"]) == 20 * RATE_HZ


# ---------------------------------------------------------------- transcript


def test_the_table_is_written_as_pandas_writes_it(tokens):
    assert list(tokens[0]) == ["", *FEATURE_COLUMNS]
    numbers = [row["sentence_idx"] for row in tokens]
    assert all(re.fullmatch(r"\d+\.0", number) for number in numbers)
    assert {row["is_onset"] for row in tokens} == {"0.0", "1.0"}
    untimed = [row for row in tokens if row["start"] == ""]
    assert 0.04 < len(untimed) / len(tokens) < 0.15
    for value in ("inf", "-inf"):
        assert any(value in row.values() for row in tokens)
    assert any(row["start"] and row["onset_diff"] == row["word_diff"] == "" for row in tokens)


def test_texts_hold_what_trips_readers(tokens):
    sentences = {row["sentence_idx"]: row["sentence"] for row in tokens}.values()
    assert any('"' in text for text in sentences)
    assert any("\n" in text for text in sentences)
    assert any("’" in text for text in sentences)
    assert any("'" in text for text in sentences)
    assert any(re.search(r"gon na", text) for text in sentences)
    assert all(text[-1] in ".?!" and "," not in text for text in sentences)
    assert any("’" in row["text"] for row in tokens)


def test_some_words_have_no_times_and_some_sentences_no_usable_token(tokens):
    words = defaultdict(list)
    for row in tokens:
        words[row["sentence_idx"]].append(row)
    assert len(words) == SENTENCES + 2
    unaligned = [s for s in words.values() if all(row["start"] == "" for row in s)]
    assert len(unaligned) == 1
    inner = [
        (before["start"], row["start"], row["pos"])
        for sentence in words.values()
        for before, row in pairwise(sentence)
        if sentence not in unaligned
    ]
    assert any(start == "" and pos == "NOUN" for _, start, pos in inner)


def test_the_track_ends_before_the_transcript(tokens, timings):
    last_s = max(float(row["start"]) for row in tokens if row["start"])
    assert last_s > float(timings[-1]["movie_time"]) + 30


def test_neighbours_may_be_identical_and_both_are_kept(quirky):
    segments = select_segments(open_brain_treebank(quirky), SegmentSpec.literal())
    alike = [i for i, (a, b) in enumerate(pairwise(segments.text)) if a == b]
    assert alike
    assert (np.diff(segments.sentence_idx)[alike] == 1).all()


@pytest.mark.parametrize("seed", range(1, 9))
def test_identical_neighbours_do_not_depend_on_luck(tmp_path, seed):
    root = written(tmp_path / "made", quirks=True, seed=seed, sentences=30, electrodes=4)
    texts = list(open_brain_treebank(root).transcript.sentences.values())
    assert any(a == b for a, b in pairwise(texts))
    for part in ('"', "\n", "’"):
        assert any(part in text for text in texts)


# ---------------------------------------------------------------- the rest of a download


def test_files_that_nobody_needs_lie_around(quirky):
    coordinates = table(quirky / "localization/elec_coords_full.csv")
    order = ["ID", "Z", "X", "Y", "Hemisphere", "Subject", "Electrode", "Region"]
    assert list(coordinates[0]) == order
    of_sub_9 = [row["Electrode"] for row in coordinates if row["Subject"] == "sub_9"]
    assert of_sub_9 == list(open_brain_treebank(quirky).electrodes[:-1])
    voxels = table(quirky / "localization/sub_9/depth-wm.csv")
    assert [int(voxels[0][name]) > 0 for name in "LIP"] == [True] * 3
    trees = (quirky / "trees/synthetic/tree.conllu").read_text().strip().split("\n\n")
    assert len(trees) == SENTENCES + 2
    assert all(line.count("\t") == 9 for line in trees[0].splitlines()[1:])
    assert Image.open(quirky / "movie_frames/synthetic/frame_1000.png").size == (1, 1)
    folders = {path.name for path in quirky.iterdir() if path.is_dir()}
    assert {"speaker_annotations", "scene_annotations", "all_subject_data"} < folders
    assert (quirky / "subject_metadata/sub_2_trial004_metadata.json").is_file()


# ---------------------------------------------------------------- for any screenplay


@given(st.integers(0, 10_000), st.integers(30, 300))
@settings(max_examples=30)
def test_words_that_are_spoken_stay_and_keep_their_times(seed, n_sentences):
    plain = compose_screenplay(seed, n_sentences, equal_durations=False)
    odd = odd_screenplay(seed, plain)
    pairs = list(zip(odd.sentences, odd.edges_s, strict=True))
    n_untimed, n_untracked = max(1, n_sentences // 95), max(1, n_sentences // 100)
    assert len(pairs) == n_sentences + n_untimed + n_untracked
    assert all(len(edges_s) == sentence.n_words + 1 for sentence, edges_s in pairs)
    assert all((np.diff(edges_s) >= 0.002).all() for _, edges_s in pairs)  # ends are 1 ms earlier
    assert all(edges_s[0] > odd.end_s for _, edges_s in pairs[-n_untracked:])
    timed = [pair for pair in pairs[:-n_untracked] if pair[0].n_words]
    assert len(timed) == n_sentences
    changed = 0
    for (sentence, edges_s), before, before_s in zip(
        timed, plain.sentences, plain.edges_s, strict=True
    ):
        assert (edges_s[0], edges_s[-1]) == (before_s[0], before_s[-1])
        spoken = [[t.text for t in s.tokens if t.spoken] for s in (sentence, before)]
        changed += spoken[0] != spoken[1]
    assert changed <= 1
