"""Tests for scores of seeded, resampled splits, on plain arrays.

Setting: J seeds; seed j fixes split, initial weights and order; d_j is the difference between two
configurations, or between one and chance, at that seed. The test sets overlap from seed to seed,
so the d_j are correlated, and the usual t-test finds differences that are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 10_000
"""Of the bootstrap; its generator has seed 0, so that a report comes out the same again."""


class TTest(NamedTuple):
    """A two-sided t-test of mean(d) = 0.

    Attributes:
        statistic: t.
        pvalue: two-sided.
        df: degrees of freedom, J - 1.
        mean: of the differences.
        low, high: 95 % confidence interval of the mean.
    """

    statistic: float
    pvalue: float
    df: int
    mean: float
    low: float
    high: float


def corrected_resampled_ttest(differences: ArrayLike, n_train: int, n_test: int) -> TTest:
    """Corrected resampled t-test (Nadeau and Bengio 2003).

        t = mean(d) / sqrt((1/J + n_test/n_train) * var(d)),  var with ddof 1, J - 1 degrees

    With n_test = 0 it is the ordinary one-sample t-test. Where all differences are equal the
    variance is 0: t is infinite and p is 0, or, where they are all zero, t is 0 and p is 1.

    Args:
        differences: `[J]`, one per seed, J at least 2.
        n_train: sentences the model was fitted on; validation does not count.
        n_test: sentences in the test split.

    Raises:
        ValueError: fewer than two differences, a value that is not finite, or impossible sizes.
    """
    d = _finite_vector(differences)
    if len(d) < 2:
        raise ValueError(f"a t-test needs at least 2 seeds, got {len(d)}")
    if n_train < 1 or n_test < 0:
        raise ValueError(f"n_train must be at least 1 and n_test at least 0: {n_train}, {n_test}")
    above_first = d - d[0]  # all exactly 0 where the differences are equal
    df, mean = len(d) - 1, float(d[0] + above_first.mean())
    error = float(np.sqrt((1 / len(d) + n_test / n_train) * above_first.var(ddof=1)))
    certain = float(np.copysign(np.inf, mean)) if mean else 0.0
    statistic = mean / error if error else certain
    margin = float(stats.t.ppf(0.975, df)) * error
    pvalue = float(2 * stats.t.sf(abs(statistic), df))
    return TTest(statistic, pvalue, df, mean, mean - margin, mean + margin)


def naive_ttest(differences: ArrayLike) -> TTest:
    """The ordinary t-test, which takes seeds for independent; shown beside the corrected one.

    Raises:
        ValueError: as `corrected_resampled_ttest`.
    """
    return corrected_resampled_ttest(differences, n_train=1, n_test=0)


def holm(pvalues: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a declared family of p-values, in their order.

    The i-th smallest of m is multiplied by m - i + 1; none may fall below a smaller one, and none
    exceeds 1.

    Raises:
        ValueError: a p-value lies outside [0, 1].
    """
    p = _finite_vector(pvalues)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"p-values must be in [0, 1], got {p.min():g} to {p.max():g}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def effect_size(differences: ArrayLike) -> float:
    """Cohen's d of paired differences: their mean in standard deviations (ddof 1).

    Infinite where the differences are equal and not 0; 0 where all are 0.

    Raises:
        ValueError: fewer than two differences, or a value that is not finite.
    """
    return naive_ttest(differences).statistic / np.sqrt(len(np.asarray(differences)))


def win_probability(first: ArrayLike, second: ArrayLike) -> Estimate:
    """P(A > B): the share of seeds at which A beats B (Bouthillier et al. 2021, section 4).

    A tie counts half. The interval is the percentile bootstrap over seeds; the authors call A
    better where it lies above .5 and the share reaches .75.

    Args:
        first: `[J]`, scores of A by seed.
        second: `[J]`, scores of B at the same seeds.

    Raises:
        ValueError: the scores are not paired, or not finite, or none.
    """
    a, b = _finite_vector(first), _finite_vector(second)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"expected scores at the same seeds, got {len(a)} and {len(b)}")
    wins = (1 + np.sign(a - b)) / 2
    chosen = np.random.default_rng(0).integers(len(wins), size=(RESAMPLES, len(wins)))
    return Estimate(float(wins.mean()), *_percentiles(wins[chosen].mean(axis=1)))


def interquartile_mean(scores: Sequence[ArrayLike]) -> Estimate:
    """Mean of the middle half of all runs (Agarwal et al. 2021), over recordings and seeds.

    Each run counts once, so a recording of more seeds counts for more. The bootstrap is stratified:
    it draws seeds anew within each recording, so it tells how sure the value is for these
    recordings, not for others.

    Args:
        scores: by recording, `[J]` each; recordings may differ in J, their number of seeds.

    Raises:
        ValueError: a recording has no score, or one that is not finite, or there is no recording.
    """
    recordings = [_finite_vector(row) for row in scores]
    sizes = [len(row) for row in recordings]
    if not sizes or not all(sizes):
        raise ValueError(f"expected scores of every recording, got {sizes}")
    generator = np.random.default_rng(0)
    drawn = [row[generator.integers(len(row), size=(RESAMPLES, len(row)))] for row in recordings]
    means = stats.trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    value = float(stats.trim_mean(np.concatenate(recordings), 0.25))
    return Estimate(value, *_percentiles(means))


class SignedRankTest(NamedTuple):
    """Wilcoxon's test: two-sided p, and the smallest p that this number of seeds can reach."""

    pvalue: float
    smallest: float


def wilcoxon_signed_rank(differences: ArrayLike) -> SignedRankTest:
    """Wilcoxon's signed-rank test; zeros are dropped, as Wilcoxon did.

    Exact up to 50 seeds without ties; with ties, as SciPy approximates it.

    Like the naive t-test it takes seeds for independent, and is shown for comparison only.

    Raises:
        ValueError: no difference, or a value that is not finite.
    """
    d = _finite_vector(differences).round(12)  # two alike but for rounding are a tie in rank
    if not len(d):
        raise ValueError("a signed-rank test needs at least one seed")
    left = int(np.count_nonzero(d))
    if not left:
        return SignedRankTest(1.0, 1.0)
    return SignedRankTest(float(stats.wilcoxon(d).pvalue), min(1.0, 2.0 ** (1 - left)))


class Posterior(NamedTuple):
    """Probabilities that a true difference is below, within and above practical equivalence."""

    below: float
    equivalent: float
    above: float


def correlated_bayesian_ttest(
    differences: ArrayLike, n_train: int, n_test: int, equivalence: float
) -> Posterior:
    """Bayesian correlated t-test (Benavoli et al. 2017, section 3.1).

    The posterior of the mean difference under a flat prior is Student's t with J - 1 degrees of
    freedom, location mean(d) and scale sqrt((1/J + n_test/n_train) * var(d)).

    Args:
        differences: `[J]`, one per seed.
        n_train: as in `corrected_resampled_ttest`.
        n_test: likewise.
        equivalence: differences up to this much, in either direction, mean nothing in practice.

    Raises:
        ValueError: as `corrected_resampled_ttest`, or a negative region.
    """
    if equivalence < 0:
        raise ValueError(f"the region of equivalence must not be negative, got {equivalence}")
    test = corrected_resampled_ttest(differences, n_train, n_test)
    if np.isinf(test.statistic) or test.low == test.high:  # no spread: all of it at one place
        below, above = test.mean < -equivalence, test.mean > equivalence
        return Posterior(float(below), float(not below and not above), float(above))
    scale = (test.high - test.mean) / stats.t.ppf(0.975, test.df)
    posterior = stats.t(test.df, test.mean, scale)
    below, above = float(posterior.cdf(-equivalence)), float(posterior.sf(equivalence))
    return Posterior(below, 1 - below - above, above)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _finite_vector(values: ArrayLike) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"expected one value per seed, got an array of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"values must be finite, got {vector[~np.isfinite(vector)][0]}")
    return vector


if __name__ == "__main__":
    from analysis.results_table import ResultsOptions, main
    from ssense.command import run_command

    run_command(ResultsOptions, main)
