"""Windows that begin some time before or after a sentence's onset."""

from __future__ import annotations

import numpy as np
import pytest

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import (
    LEAVES,
    STRADDLES,
    TOO_LONG,
    SegmentSpec,
    select_segments,
    sentence_spans,
)
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.signal.features import features
from ssense.signal.superlets import SuperletSpec


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    root = tmp_path_factory.mktemp("windows") / "made"
    write_synthetic(root, SyntheticSpec(sentences=40, electrodes=3, lead_in_s=3.0, pauses=2))
    return open_brain_treebank(root)


@pytest.mark.parametrize("start_s", [-1.0, -0.25, 0.0, 0.5])
def test_a_window_begins_where_it_is_said_and_has_what_features_clip_around_it(recording, start_s):
    spec = SegmentSpec(window_start_s=start_s, window_s=0.25)
    segments = select_segments(recording, spec, clipped=100)
    spans = sentence_spans(recording)
    onsets = dict(zip(spans.sentence_idx.tolist(), spans.onset_sample.tolist(), strict=True))
    begun = segments.start - [onsets[number] for number in segments.sentence_idx.tolist()]
    assert set(begun.tolist()) == {round(start_s * 512) - 100}
    assert set((segments.stop - segments.start).tolist()) == {150 + 200}  # 128 to whole frames
    assert segments.n_samples == 350


def test_a_window_is_timed_in_seconds_that_passed_whatever_rate_is_assumed(recording):
    told, assumed = (
        select_segments(
            recording,
            SegmentSpec(window_start_s=0.5, window_s=0.25, sampling_rate=rate),
            clipped=100,
        )
        for rate in ("measured", "nominal_2048")
    )
    np.testing.assert_array_equal(told.start, assumed.start)
    np.testing.assert_array_equal(told.stop, assumed.stop)


def test_frames_are_of_the_window_alone(recording):
    recipe = SuperletSpec(minimum_hz=20, maximum_hz=100, n_frequencies=3, edge_clip=2)
    spec = SegmentSpec(window_start_s=0.5, window_s=0.25, line_hz=None)
    segments = select_segments(recording, spec, clipped=100)
    (signal,) = read_segments(recording, segments, spec, [0])
    found = features(signal, 512, recipe)
    assert found.shape[-1] == 3  # at 0.5 s and every 50 samples from there
    spans = sentence_spans(recording)
    at = np.flatnonzero(spans.sentence_idx == segments.sentence_idx[0])
    onset = int(spans.onset_sample[at[0]])
    assert segments.start[0] + 2 * recipe.decimation == onset + 256


def test_windows_that_leave_the_file_or_meet_a_pause_are_left_out(recording):
    early = select_segments(recording, SegmentSpec(window_start_s=-6.0, window_s=0.5))
    first = min(recording.transcript.sentences)
    assert early.left_out[first] == LEAVES  # 3 s of lead-in, and 2 to the first sentence
    assert early.dropped[LEAVES] == 1
    beside = select_segments(recording, SegmentSpec(window_start_s=0.0, window_s=0.25))
    assert LEAVES not in beside.dropped
    long = select_segments(recording, SegmentSpec(window_start_s=-4.0, window_s=8.0))
    assert long.dropped[STRADDLES] > beside.dropped.get(STRADDLES, 0)


def test_a_window_without_a_beginning_is_as_before(recording):
    spec = SegmentSpec(window_s=1.0)
    before, now = select_segments(recording, spec), select_segments(recording, spec, clipped=100)
    np.testing.assert_array_equal(before.start, now.start)
    np.testing.assert_array_equal(before.stop, now.stop)


def test_sentences_are_long_enough_or_not_by_themselves_whatever_the_window(recording):
    given = {"max_duration_s": 1.5}
    whole = select_segments(recording, SegmentSpec(**given)).dropped[TOO_LONG]
    assert whole > 3
    for start_s in (-0.5, 1.0):
        spec = SegmentSpec(window_start_s=start_s, window_s=0.25, **given)
        assert select_segments(recording, spec).dropped[TOO_LONG] == whole


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window_start_s": 0.5}, "window_start_s is 0.5 without window_s"),
        (
            {"window_start_s": 0.5, "window_s": 1.0, "pad_to": 8200},
            "pad_to must be None with window_start_s, got 8200",
        ),
        ({"window_start_s": -1e9, "window_s": 1.0}, "window_start_s must be at most .* got -1"),
        ({"window_start_s": float("nan"), "window_s": 1.0}, "window_start_s must be at most"),
    ],
)
def test_windows_that_there_can_not_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SegmentSpec(**given)
