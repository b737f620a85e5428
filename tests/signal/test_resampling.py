"""Against sines in closed form, and itself in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssense.signal.resampling import Resampling

RATES = [
    (1000.0, 500.0),
    (1525.87890625, 500.0),
    (2034.5, 1000.0),
    (4800.0, 2048.0),
    (1023.87, 512.0),
]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_what_lies_below_half_the_new_rate_stays_where_it_was(from_hz, to_hz):
    """A sum of sines up to 0.9 of half the new rate, known at any time, whatever the filter."""
    generator, resampling, n = np.random.default_rng(0), Resampling(from_hz, to_hz), 20_000
    hz = generator.uniform(0.5, 0.45 * to_hz, 20)
    phase, amplitude = generator.uniform(0, 2 * np.pi, 20), generator.uniform(0.5, 1, 20)

    def signal(time_s):
        return np.sin(2 * np.pi * hz * time_s[:, None] + phase) @ amplitude

    m = resampling.n_samples(n)
    found = resampling.apply(signal(np.arange(n) / from_hz), 0, 0, m)
    expected = signal(np.arange(m) / resampling.rate_hz)
    inner = slice(400, -400)  # beyond the ends there is nothing
    np.testing.assert_allclose(found[inner], expected[inner], atol=5e-3)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("share", [0.501, 0.52, 0.55, 0.6, 0.8])
def test_what_lies_above_half_the_new_rate_vanishes(from_hz, to_hz, share):
    hz = share * to_hz
    if hz >= from_hz / 2:
        return
    resampling, n = Resampling(from_hz, to_hz), 20_000
    above = np.sin(2 * np.pi * hz * np.arange(n) / from_hz)
    found = resampling.apply(above, 0, 0, resampling.n_samples(n))
    assert np.abs(found[400:-400]).max() < 1e-3


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


def test_the_rate_that_is_said_is_the_one_that_is_made():
    for from_hz, to_hz in ((1525.87890625, 512.0), (1023.8712, 512.0), (1000.02, 1000.0)):
        resampling = Resampling(from_hz, to_hz)
        assert resampling.rate_hz == from_hz * resampling.up / resampling.down
        assert resampling.rate_hz == pytest.approx(to_hz, rel=3e-5)


@pytest.mark.parametrize(
    ("to_hz", "message"), [(513.0, "nothing new"), (0.0, "above 0"), (0.001, "too little")]
)
def test_rates_that_cannot_be_are_refused(to_hz, message):
    with pytest.raises(ValueError, match=message):
        Resampling(512.0, to_hz)
