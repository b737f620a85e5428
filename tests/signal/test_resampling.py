"""Against scipy's polyphase resampling, sines in closed form, and itself in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import firwin, resample_poly

from ssense.signal.resampling import Resampling

RATES = [
    (1000.0, 500.0),
    (1525.87890625, 500.0),
    (2034.5, 1000.0),
    (4800.0, 2048.0),
    (1023.87, 512.0),
]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_sines_below_half_the_new_rate_stay_and_those_above_vanish(from_hz, to_hz):
    resampling, n = Resampling(from_hz, to_hz), 20_000
    time_s, m = np.arange(n) / from_hz, resampling.n_samples(n)
    inner = slice(200, -200)  # beyond the ends there is nothing
    for hz in (1.0, 20.0, 0.4 * to_hz):
        found = resampling.apply(np.sin(2 * np.pi * hz * time_s), 0, 0, m)
        expected = np.sin(2 * np.pi * hz * np.arange(m) / to_hz)
        assert np.abs(found - expected)[inner].max() < 5e-4
    above = np.sin(2 * np.pi * 0.6 * to_hz * time_s)
    assert np.abs(resampling.apply(above, 0, 0, m))[inner].max() < 5e-4


def test_it_is_scipy_s_with_the_same_filter():
    signal = np.random.default_rng(0).standard_normal(5000)
    resampling = Resampling(1500.0, 400.0)
    up, down = resampling.up, resampling.down
    assert (up, down) == (4, 15)
    taps = firwin(2 * 16 * down + 1, 1 / down, window=("kaiser", 8.0))
    expected = resample_poly(signal, up, down, window=taps)
    found = resampling.apply(signal, 0, 0, resampling.n_samples(len(signal)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.sampled_from(RATES), st.integers(0, 4000), st.integers(1, 700), st.integers(3000, 9000))
def test_a_sample_is_the_same_in_every_stretch_that_holds_it(rates, start, length, n):
    resampling = Resampling(*rates)
    signal = np.random.default_rng(n).standard_normal(n)
    m = resampling.n_samples(n)
    start, stop = min(start, m - 1), min(start + length, m)
    whole = resampling.apply(signal, 0, 0, m)
    begin, end = resampling.span(start, stop, n)
    found = resampling.apply(signal[begin:end], begin, start, stop)
    np.testing.assert_allclose(found, whole[start:stop], atol=1e-12)


def test_hardware_s_rates_keep_time_over_hours():
    for from_hz in (1525.87890625, 2034.505208, 1023.8712, 30_000.0, 24_414.0625):
        resampling = Resampling(from_hz, 512.0)
        assert resampling.up / resampling.down == pytest.approx(512 / from_hz, rel=1e-7)


@pytest.mark.parametrize(
    ("to_hz", "message"), [(513.0, "nothing new"), (0.0, "above 0"), (0.001, "too little")]
)
def test_rates_that_cannot_be_are_refused(to_hz, message):
    with pytest.raises(ValueError, match=message):
        Resampling(512.0, to_hz)
