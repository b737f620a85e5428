from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.subjects.random_effects import random_effects

# Log risk ratios and their variances of 13 trials of a vaccine, which the literature on random
# effects computes its examples with (Colditz et al. 1994).
TRIALS = [
    (-0.8893, 0.3256), (-1.5854, 0.1946), (-1.3481, 0.4154), (-1.4416, 0.0200), (-0.2175, 0.0512),
    (-0.7861, 0.0069), (-1.6209, 0.2230), (0.0120, 0.0040), (-0.4694, 0.0564), (-1.3713, 0.0730),
    (-0.3394, 0.0124), (0.4459, 0.5325), (-0.0173, 0.0714),
]  # fmt: skip


def test_it_agrees_with_the_published_example():
    effects, variances = np.array(TRIALS).T
    found = random_effects(effects, np.sqrt(variances))
    assert found.tau**2 == pytest.approx(0.3181, abs=2e-4)
    assert found.mean == pytest.approx(-0.7150, abs=2e-3)
    assert found.i_squared == pytest.approx(0.923, abs=2e-3)
    assert found.df == 12
    assert found.low < -1.0 < -0.4 < found.high < 0


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=12),
    st.floats(0.01, 3),
)
def test_with_equal_errors_it_is_the_t_test_over_subjects(effects, error):
    spread = np.std(effects, ddof=1)
    if spread < 1e-3:
        return
    found = random_effects(effects, [error] * len(effects))
    test = stats.ttest_1samp(effects, 0)
    interval = test.confidence_interval()
    assert found.mean == pytest.approx(np.mean(effects), abs=1e-9)
    assert found.pvalue == pytest.approx(test.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert found.tau**2 == pytest.approx(max(0, spread**2 - error**2), abs=1e-8)
    assert found.weights == pytest.approx(np.full(len(effects), 1 / len(effects)))


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(0.05, 1)), min_size=3, max_size=8),
)
def test_tau_makes_the_squares_what_their_number_expects(subjects):
    effects, errors = np.array(subjects).T
    found = random_effects(effects, errors)

    def squares(tau2: float) -> float:
        weights = 1 / (errors**2 + tau2)
        return float(weights @ (effects - weights @ effects / weights.sum()) ** 2)

    if found.tau:
        assert squares(found.tau**2) == pytest.approx(len(effects) - 1, rel=1e-5)
    else:
        assert squares(0) <= len(effects) - 1 + 1e-9
    # A new subject is told less surely than the mean.
    assert found.predicted_high - found.predicted_low >= 0.95 * (found.high - found.low)


def test_a_subject_that_is_measured_badly_counts_little():
    found = random_effects([1.0, 1.1, 1.05, 4.0], [0.1, 0.1, 0.1, 5.0])
    assert found.weights[3] < 0.01
    assert found.mean == pytest.approx(1.05, abs=0.01)


def test_two_subjects_predict_nothing_of_a_third():
    found = random_effects([1.0, 2.0], [0.3, 0.3])
    assert math.isnan(found.predicted_low)
    assert math.isnan(found.predicted_high)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_positives_and_predictions_are_near_what_they_say(n):
    """Of 1,000 worlds without a mean effect, about a twentieth show one, and a new subject's true
    effect is in its interval about as often as it says."""
    rng = np.random.default_rng(n)
    shown, inside, worlds = 0, 0, 1000
    for _ in range(worlds):
        errors = rng.uniform(0.5, 2.0, n)
        truths = rng.normal(0, 1.0, n + 1)
        found = random_effects(truths[:n] + rng.normal(0, errors), errors)
        shown += found.pvalue < 0.05
        inside += found.predicted_low <= truths[n] <= found.predicted_high
    assert 0.03 <= shown / worlds <= 0.075
    assert 0.93 <= inside / worlds <= 0.99


@pytest.mark.parametrize(
    ("effects", "errors"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, np.nan], [1, 1]), ([1.0, 2.0], [1.0, 0.0])],
)
def test_what_says_nothing_of_subjects_is_refused(effects, errors):
    with pytest.raises(ValueError, match=r"must be finite|need effects"):
        random_effects(effects, errors)
