"""One recording, written in each format, gives the same segments."""

from __future__ import annotations

import numpy as np
import pytest

from ssense.data.recordings.interchange import sentence_rows
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import SyntheticSpec

STEP_UV = 0.02  # of EDF's 16 bits, for signals of half a millivolt either way


@pytest.mark.parametrize("spec", [SegmentSpec(), SegmentSpec(reference="average")])
def test_segments_are_the_same_whatever_the_format(written, spec):
    expected, signals = None, None
    for source, error_uv in (
        (RecordingSource(place=str(written.treebank)), 0),
        (RecordingSource(place=str(written.bids)), 1e-3),
        (RecordingSource(place=str(written.edf), sentences=str(written.sentences)), STEP_UV),
    ):
        recording = open_source(source)
        segments = select_segments(recording, spec)
        found = read_segments(recording, segments, spec, range(len(segments)))
        if signals is None:
            expected, signals = segments, found
        assert segments.text == expected.text
        assert segments.electrodes == expected.electrodes
        np.testing.assert_array_equal(segments.start, expected.start)
        np.testing.assert_array_equal(segments.stop, expected.stop)
        np.testing.assert_allclose(found, signals, atol=error_uv)


def test_sentences_around_a_pause_are_left_out(tmp_path):
    write_synthetic(tmp_path / "made", SyntheticSpec(sentences=60, pauses=6, electrodes=3))
    recording = open_brain_treebank(tmp_path / "made")
    rows = sentence_rows(recording)
    pauses = recording.timeline.pauses() / recording.sampling_rate_hz
    for row in rows:
        onset, offset = float(row["onset"]), float(row["onset"]) + float(row["duration"])
        assert not np.any((onset < pauses[:, 1] - 0.01) & (offset > pauses[:, 0] + 0.01))
    assert 50 < len(rows) <= 60
