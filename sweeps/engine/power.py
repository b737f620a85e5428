"""Power: how small a difference between two configurations a number of seeds can show."""

from __future__ import annotations

import math

from scipy import optimize, stats

ALPHA = 0.05  # two-sided
POWER = 0.8


def smallest_detectable_effect(n_seeds: int, n_train: int, n_test: int) -> float:
    """Difference that the corrected resampled t-test finds at `ALPHA` with probability `POWER`.

    The test of Nadeau and Bengio (2003) has the standard error sd * sqrt(1/J + n_test/n_train) with
    J seeds and J - 1 degrees of freedom; under an effect its statistic follows a noncentral t.

    Args:
        n_seeds: J, seeds that both configurations met.
        n_train: sentences of the training split.
        n_test: sentences of the test split.

    Returns:
        The effect in standard deviations of the paired differences; infinite for a single seed.
    """
    freedom = n_seeds - 1
    if freedom < 1:
        return math.inf
    critical = stats.t.isf(ALPHA / 2, freedom)

    def missing(noncentrality: float) -> float:
        # The other tail adds less than 1e-4, and SciPy's turns to NaN there.
        return float(stats.nct.sf(critical, freedom, noncentrality)) - POWER

    highest = 1.0
    while missing(highest) < 0:
        highest *= 1.3
    noncentrality = optimize.brentq(missing, 0.0, highest)
    return noncentrality * math.sqrt(1 / n_seeds + n_test / n_train)
