from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics import corrected_resampled_ttest
from sweeps.engine.power import smallest_detectable_effect


@pytest.mark.parametrize(
    ("n_train", "n_test", "effects"),
    [
        (1000, 0, (1.68, 1.00, 0.66, 0.40)),
        (800, 100, (2.14, 1.49, 1.24, 1.09)),
        (872, 292, (2.75, 2.08, 1.83, 1.70)),
    ],
)
def test_the_table_of_noncentral_t_is_met(n_train, n_test, effects):
    for n_seeds, effect in zip((5, 10, 20, 50), effects, strict=True):
        found = smallest_detectable_effect(n_seeds, n_train, n_test)
        assert found == pytest.approx(effect, abs=0.011)


def test_one_seed_detects_nothing():
    assert smallest_detectable_effect(1, 60, 20) == math.inf


@given(st.integers(2, 60), st.integers(10, 1000), st.integers(0, 400))
def test_more_seeds_detect_less_but_never_below_the_floor(n_seeds, n_train, n_test):
    effect = smallest_detectable_effect(n_seeds, n_train, n_test)
    assert effect > smallest_detectable_effect(n_seeds + 1, n_train, n_test)
    assert effect > math.sqrt(n_test / n_train)


@pytest.mark.parametrize("n_seeds", [3, 10])
def test_an_effect_of_that_size_is_found_four_times_in_five(n_seeds):
    n_train, n_test = 872, 292
    rho = n_test / n_train
    effect = smallest_detectable_effect(n_seeds, n_train, n_test)
    # Differences whose mean has the variance that the correction assumes, s² (1/J + rho).
    generator = np.random.default_rng(0)
    own = generator.standard_normal((4000, n_seeds))
    shared = math.sqrt(rho) * generator.standard_normal((4000, 1))
    found = [
        corrected_resampled_ttest(row, n_train, n_test).pvalue < 0.05
        for row in effect + own + shared
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)
