"""A recording at a lower rate: the same sentences at the same seconds, resampled as it is read."""

from __future__ import annotations

import numpy as np
import pytest

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.resampled import at_rate
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.errors import UserError


@pytest.fixture
def recording(written):
    return open_brain_treebank(written.treebank)


def test_sentences_stay_where_they_were_in_seconds(recording):
    lower, spec = at_rate(recording, 200.0), SegmentSpec()
    before, after = select_segments(recording, spec), select_segments(lower, spec)
    assert after.text == before.text
    for name in ("start", "stop"):
        was_s = getattr(before, name) / recording.sampling_rate_hz
        is_s = getattr(after, name) / lower.sampling_rate_hz
        np.testing.assert_allclose(is_s, was_s, atol=1 / 200)
    assert lower.n_samples / 200.0 == pytest.approx(recording.n_samples / 512.0, abs=1 / 200)


def test_rows_do_not_depend_on_each_other(recording):
    lower, spec = at_rate(recording, 200.0), SegmentSpec()
    segments = select_segments(lower, spec)
    whole = read_segments(lower, segments, spec, range(len(segments)))
    for row in (0, 7, len(segments) - 1):
        (alone,) = read_segments(lower, segments, spec, [row])
        np.testing.assert_allclose(alone, whole[row], atol=1e-4)


def test_a_slow_signal_is_the_same_at_both_rates(recording):
    """Below the mains, where no notch differs, a contact's slow waves are what they were."""
    lower = at_rate(recording, 200.0)
    n_s = 20
    (high,) = recording.read_channel("F1a1", [(0, n_s * 512)])
    (low,) = lower.read_channel("F1a1", [(0, n_s * 200)])

    def slow(signal, rate_hz):
        spectrum = np.fft.rfft(signal - signal.mean())
        return np.abs(spectrum[: 40 * n_s]) / len(signal), rate_hz

    np.testing.assert_allclose(slow(low, 200)[0][20:], slow(high, 512)[0][20:], atol=0.05)


def test_what_was_resampled_is_resampled_from_its_original(recording):
    lower = at_rate(at_rate(recording, 256.0), 200.0)
    assert lower.original is recording
    assert at_rate(lower, None) is recording
    assert at_rate(lower, 512.0) is recording
    assert lower.digest == recording.digest


def test_quality_is_that_of_the_original_in_samples_of_the_new_rate(recording):
    lower = at_rate(recording, 256.0)
    assert lower.quality.left_out == recording.quality.left_out
    np.testing.assert_allclose(lower.quality.dead, recording.quality.dead / 2, atol=1)


def test_more_samples_than_there_are_are_refused(recording):
    with pytest.raises(UserError, match=r"resample_hz 1000 must be .* at most 512.*nothing new"):
        at_rate(recording, 1000.0)


def test_its_files_may_lie_elsewhere(recording, written, tmp_path):
    lower = at_rate(recording, 256.0)
    (tmp_path / "there").symlink_to(written.treebank)
    moved = lower.moved(tmp_path / "there")
    assert moved.original.files["signals"].parent == tmp_path / "there"
    (a,), (b,) = (each.read_channel("F1a2", [(100, 300)]) for each in (lower, moved))
    np.testing.assert_array_equal(a, b)
