from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.recordings.surrogate import SURROGATES, NoiseRecording, ShiftedRecording
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    root = tmp_path_factory.mktemp("recording")
    write_synthetic(root, SyntheticSpec(sentences=60, sampling_rate=256))
    return open_brain_treebank(root)


def whole(recording: Recording, electrode: str) -> np.ndarray:
    (signal,) = recording.read_channel(electrode, [(0, recording.n_samples)])
    return signal


@pytest.mark.parametrize("kind", SURROGATES.values())
def test_everything_but_the_signals_is_the_original_s(recording, kind):
    surrogate = kind.of(recording)
    spec = SegmentSpec.literal()
    original, found = select_segments(recording, spec), select_segments(surrogate, spec)
    assert found.text == original.text
    assert np.array_equal(found.start, original.start)
    assert np.array_equal(found.stop, original.stop)
    assert surrogate.digest == kind.of(recording).digest
    assert len({each.of(recording).digest for each in SURROGATES.values()}) == 2
    assert surrogate.digest != recording.digest


def test_noise_is_white_gaussian_and_independent_between_electrodes(recording):
    noise = NoiseRecording.of(recording)
    first, second, *_ = (whole(noise, name) for name in recording.electrodes)
    assert len(first) == recording.n_samples
    assert stats.kstest(first / first.std(), "norm").pvalue > 0.001
    bound = 4.5 / np.sqrt(len(first))
    assert abs(np.corrcoef(first, second)[0, 1]) < bound
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < bound
    assert abs(np.corrcoef(first, whole(recording, recording.electrodes[0]))[0, 1]) < bound


def test_a_sample_of_noise_is_the_same_in_every_stretch(recording):
    noise, name = NoiseRecording.of(recording), recording.electrodes[1]
    (signal,) = noise.read_channel(name, [(0, 140_000)])
    stretches = [(0, 10), (5, 5), (65_530, 65_545), (1000, 140_000)]
    for (start, stop), found in zip(stretches, noise.read_channel(name, stretches), strict=True):
        assert np.array_equal(found, signal[start:stop])


def test_shifted_signals_come_from_half_a_recording_away(recording):
    shifted, name = ShiftedRecording.of(recording), recording.electrodes[0]
    rolled = np.roll(whole(recording, name), -(recording.n_samples // 2))
    assert np.array_equal(whole(shifted, name), rolled)
    middle = recording.n_samples - recording.n_samples // 2  # where the end goes on at the start
    stretches = [(0, 7), (middle - 5, middle + 9), (middle, middle + 3), (4, 4)]
    stretches.append((recording.n_samples - 3, recording.n_samples))
    for (start, stop), found in zip(stretches, shifted.read_channel(name, stretches), strict=True):
        assert np.array_equal(found, rolled[start:stop])


@pytest.mark.parametrize("kind", SURROGATES.values())
def test_segments_of_a_surrogate_have_the_lengths_of_the_original_s(recording, kind):
    spec = SegmentSpec.literal()
    segments = select_segments(recording, spec)
    rows = list(range(len(segments)))
    original = read_segments(recording, segments, spec, rows)
    found = read_segments(kind.of(recording), segments, spec, rows)
    padded = np.arange(segments.n_samples) >= (segments.stop - segments.start)[:, None]
    assert not found.transpose(0, 2, 1)[padded].any()
    assert found.transpose(0, 2, 1)[~padded].all()
    together = np.corrcoef(original.ravel(), found.ravel())[0, 1]
    assert abs(together) < 0.5
