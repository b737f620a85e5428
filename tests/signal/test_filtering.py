from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import freqz, iirnotch, lfilter

from ssense.signal.filtering import (
    notch_filter,
    notch_warm_up_seconds,
)


def impulse_response(rate: float, samples: int, **options: float) -> np.ndarray:
    impulse = np.zeros(samples)
    impulse[0] = 1.0
    return notch_filter(impulse, rate, **options)


@pytest.mark.parametrize(
    ("rate", "line_hz", "harmonics"),
    [
        (2048, 60, [60, 120, 180, 240, 300, 360]),
        (1024, 50, [50, 100, 150, 200, 250, 300, 350]),
        (512, 60, [60, 120, 180, 240]),
        (720, 60, [60, 120, 180, 240, 300]),  # 360 Hz is half the rate itself
        (121, 60, [60]),
    ],
)
def test_response_is_the_product_of_single_notches(
    rate: float, line_hz: float, harmonics: list[float]
) -> None:
    response = np.fft.rfft(impulse_response(rate, 2**15, line_hz=line_hz))
    frequencies = np.fft.rfftfreq(2**15, 1 / rate)
    expected = np.ones(len(frequencies), dtype=complex)
    for hz in harmonics:
        expected *= freqz(*iirnotch(hz, 30, fs=rate), worN=frequencies, fs=rate)[1]
    np.testing.assert_allclose(response, expected, atol=1e-9)


def test_line_noise_goes_and_the_rest_stays() -> None:
    rate, settled = 2048, int(2048 * notch_warm_up_seconds(2048))
    seconds = np.arange(8 * rate) / rate
    for hz, gain in [(60, 0.0), (180, 0.0), (360, 0.0), (10, 1.0), (90, 1.0), (420, 1.0)]:
        kept = notch_filter(np.cos(2 * np.pi * hz * seconds), rate)[settled:]
        assert np.abs(kept).max() == pytest.approx(gain, abs=0.01)


def test_width_at_half_power_is_frequency_over_quality() -> None:
    spectrum = np.fft.rfft(impulse_response(2048, 2**18, highest_hz=60, quality=20))
    stopped = np.abs(spectrum) < np.sqrt(0.5)
    assert stopped.sum() * 2048 / 2**18 == pytest.approx(60 / 20, abs=0.02)


def test_filters_the_last_axis_as_a_chain_of_lfilter() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 3, 4096))
    expected = signal
    for hz in (60, 120, 180, 240, 300, 360):
        expected = lfilter(*iirnotch(hz, 30, fs=1024), expected, axis=-1)
    filtered = notch_filter(signal, 1024)
    assert filtered.shape == signal.shape
    np.testing.assert_allclose(filtered, expected, atol=1e-11)
    np.testing.assert_allclose(notch_filter(signal[1, 2], 1024), filtered[1, 2], atol=1e-12)


def test_integers_are_filtered_in_double_precision() -> None:
    counts = np.random.default_rng(0).integers(-1000, 1000, 500)
    filtered = notch_filter(counts, 1024)
    assert filtered.dtype == np.float64
    np.testing.assert_array_equal(filtered, notch_filter(counts.astype(float), 1024))


@pytest.mark.parametrize("rate", [130, 250, 512, 722, 1024, 2048])
@pytest.mark.parametrize("line_hz", [50, 60])
@pytest.mark.parametrize("quality", [5, 30])
def test_start_is_forgotten_after_the_warm_up(rate: float, line_hz: float, quality: float) -> None:
    options = {"line_hz": line_hz, "quality": quality}
    warm_up = int(np.ceil(rate * notch_warm_up_seconds(rate, **options)))
    # Whatever came before a cold start enters through this tail, weighted by at most its maximum.
    tail = impulse_response(rate, 3 * warm_up, **options)[warm_up:]
    assert np.abs(tail).sum() < 1e-10


def test_warm_up_of_the_defaults_follows_from_the_width_of_the_first_notch() -> None:
    for rate in (1024, 2048, 4096):
        decays_in = np.log(1e11) * 30 / (np.pi * 60)
        assert notch_warm_up_seconds(rate) == pytest.approx(decays_in, rel=1e-3)
    assert notch_warm_up_seconds(2048, tolerance=1e-3) < 1.5


def test_a_warmed_up_segment_equals_the_same_part_of_the_whole_recording() -> None:
    rate = 1024
    recording = np.cumsum(np.random.default_rng(1).standard_normal(20 * rate))
    begin = 12 * rate
    lead_in = int(np.ceil(rate * notch_warm_up_seconds(rate)))
    segment = notch_filter(recording[begin - lead_in : begin + rate], rate)[lead_in:]
    whole = notch_filter(recording, rate)[begin : begin + rate]
    # Twice the tolerance: the recording itself had a start, too.
    np.testing.assert_allclose(segment, whole, atol=2e-10 * np.abs(recording).max(), rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "sampling_rate_hz must be a finite number above 0, got 0.0"),
        ((1024, -60.0), "line_hz must be a finite number above 0, got -60.0"),
        ((1024, 60.0, 360.0, float("nan")), "quality must be a finite number above 0, got nan"),
        ((100,), "line_hz 60 must be at most highest_hz, 360, and below half the .* 50 Hz"),
        ((1024, 60.0, 50.0), "line_hz 60 must be at most highest_hz, 50, and below .* 512 Hz"),
    ],
)
def test_notch_refuses(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        notch_filter(np.zeros(10), *arguments)
