"""Tests for the scores of seeded cells, on plain arrays; which one depends on what seeds share.

Seeds that draw their own test splits: d_j is the difference between two configurations, or between
one and chance, at seed j. The test splits overlap from seed to seed, so the d_j are correlated, and
the usual t-test finds differences that are not there: `corrected_resampled_ttest`.

Seeds that share one test split: they say nothing of other stimuli, however many there are. The
unit is the stimulus, averaged over seeds, in blocks of time: `stimulus_test`, and `pairing_test`
for chance. Subjects who met the same stimuli: both are drawn from many, `crossed_ttest`, and beside
it, by drawing them again, `two_way_bootstrap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 10_000
"""Samples that a bootstrap or a test over stimuli draws, from seed 0: reports come out the same."""
ROUNDING = 1e-12
"""Share of the largest difference below which a mean, or its error, is one of rounding."""
ENOUGH_TO_DRAW = 5
"""Subjects at least that a bootstrap draws again: of fewer, even the extremes are too near."""
PERMUTATIONS = 5_000
"""Number of permutations of a pairing, drawn from seed 0."""


class TTest(NamedTuple):
    """A two-sided test of mean(d) = 0.

    Attributes:
        statistic: The mean in standard errors; NaN where it is not testable.
        pvalue: The two-sided p-value; 1 where it is not testable.
        df: Degrees of freedom.
        mean: The mean of the differences.
        low: Lower end of the mean's 95 % confidence interval; -inf where nothing bounds it.
        high: Upper end of the same interval.
        error: The mean's standard error; NaN where it is not testable.
    """

    statistic: float
    pvalue: float
    df: float
    mean: float
    low: float
    high: float
    error: float

    @property
    def testable(self) -> bool:
        """Whether there is an estimate of the mean's error to test it by."""
        return not math.isnan(self.error)


def corrected_resampled_ttest(
    differences: ArrayLike, n_train: int, n_test: int, smallest_variance: float = 0.0
) -> TTest:
    """Corrected resampled t-test (Nadeau and Bengio 2003).

        t = mean(d) / sqrt((1/J + n_test/n_train) * var(d)),  var with ddof 1, J - 1 degrees

    With n_test = 0 it is the ordinary one-sample t-test. Where all differences are equal, as shares
    of few stimuli easily are, nothing estimates their spread: they are not testable, unless a
    smallest variance is known.

    Args:
        differences: Differences `[J]`, one per seed, J at least 2.
        n_train: Stimuli the model was fitted on; validation does not count.
        n_test: Stimuli in the test split; 0 where the units are independent.
        smallest_variance: A bound from elsewhere that var(d) is not trusted below.

    Raises:
        ValueError: Fewer than two differences, a value that is not finite, or impossible sizes.
    """
    d = _finite_vector(differences)
    if len(d) < 2:
        raise ValueError(f"a t-test needs at least 2 seeds, got {len(d)}")
    if n_train < 1 or n_test < 0:
        raise ValueError(f"n_train must be at least 1 and n_test at least 0: {n_train}, {n_test}")
    above_first = d - d[0]  # all exactly 0 where the differences are equal
    mean = float(d[0] + above_first.mean())
    variance = max(float(above_first.var(ddof=1)), smallest_variance)
    error = math.sqrt((1 / len(d) + n_test / n_train) * variance)
    return _ttest(mean, error, len(d) - 1, float(np.abs(d).max()))


def variance_of_stimuli(values: Sequence[np.ndarray], n_train: int, n_test: int) -> float:
    """The least variance that differences between seeds have, as each is a mean over stimuli.

    A mean over n stimuli has the variance of one over n (for hits, McNemar's: discordant pairs
    over n squared). Seeds share part of theirs, so the variance *between* seeds is a share
    n_train / (n_train + n_test) of it, by the correlation that Nadeau and Bengio (2003) assume.

    Args:
        values: The difference at each stimulus of a seed's test split, by seed `[n]`.
        n_train: Stimuli the model was fitted on.
        n_test: Stimuli in the test split.
    """
    of_means = [float(row.var()) / len(row) for row in values]
    return float(np.mean(of_means)) * n_train / (n_train + n_test)


def least_variance_of_hits(differences: ArrayLike, n_train: int, n_test: int) -> float:
    """The least variance that differences between shares of hits can have between seeds.

    As `variance_of_stimuli`, where it is unknown which stimuli were hit: a difference of d between
    two shares takes at least n |d| stimuli that one hits and the other does not (McNemar), so that
    its variance over stimuli is at least |d| (1 - |d|).

    Args:
        differences: Differences between shares of hits, `[J]`, one per seed, each within [-1, 1].
        n_train: Stimuli the model was fitted on.
        n_test: Stimuli in the test split.
    """
    d = np.abs(_finite_vector(differences))
    return float(np.mean(d * (1 - d))) / n_test * n_train / (n_train + n_test)


def stimulus_test(differences: ArrayLike, n_blocks: int) -> TTest:
    """Test over the stimuli of one test split, which all seeds share, in blocks of time.

    Neighbours in a film are alike, so blocks change their signs together, not stimuli. For sign
    changes of sums, p and interval have a closed form: the mean is compared with the means of all
    subsets of blocks (Hartigan 1969, "Using subsample values as typical values"), of which many
    are drawn at random. Exact where blocks are independent and their sums symmetric about 0 under
    the null hypothesis.

    Args:
        differences: Differences `[n]`, one per stimulus in the order of time, means over seeds.
        n_blocks: Blocks of equal length to cut them into; n or more for single stimuli.

    Raises:
        ValueError: Fewer than two stimuli, or a value that is not finite.
    """
    (test,) = stimulus_tests(_finite_vector(differences)[:, None], n_blocks)
    return test


def stimulus_tests(differences: np.ndarray, n_blocks: int) -> list[TTest]:
    """The `stimulus_test` of each of several differences over the same stimuli.

    They share the subsets of blocks that are drawn, which take most of the time.

    Args:
        differences: Differences `[n, k]`, a column per test.
        n_blocks: How many blocks of neighbours the stimuli are tested in; 0 tests each by itself.

    Raises:
        ValueError: Fewer than two stimuli, or a value that is not finite.
    """
    d = np.ascontiguousarray(differences.T, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ValueError("a difference is not finite")
    if d.shape[1] < 2:
        raise ValueError(f"a test over stimuli needs at least 2 of them, got {d.shape[1]}")
    blocks = np.array_split(d, min(n_blocks, d.shape[1]), axis=1)
    sums = np.stack([block.sum(axis=1) for block in blocks], axis=1)
    drawn = np.random.default_rng(0).random((RESAMPLES, len(blocks))) < 0.5
    sizes = drawn @ np.array([block.shape[1] for block in blocks])
    with np.errstate(invalid="ignore"):
        means = (drawn @ sums.T) / sizes[:, None]  # NaN for the empty set, which bounds nothing
    return [_subset_test(*each) for each in zip(d, sums, means.T, strict=True)]


def _subset_test(d: np.ndarray, sums: np.ndarray, means: np.ndarray) -> TTest:
    """Compare the mean of differences with the means of subsets of their blocks.

    Args:
        d: Differences `[n]`.
        sums: Their sums by block, `[B]`.
        means: Means of subsets of blocks `[RESAMPLES]`, NaN for an empty one.
    """
    n, largest = len(sums), float(np.abs(d).max())
    error = float((sums * n / len(d)).std(ddof=1)) / math.sqrt(n)
    mean, error = _without_rounding([d.mean(), error], largest).tolist()
    if not error:  # all blocks are alike
        return _not_testable(mean, n - 1)
    means = _without_rounding(means, largest)
    empty = np.isnan(means)
    tails = [(1 + (empty | side).sum()) / (1 + RESAMPLES) for side in (means <= 0, means >= 0)]
    low = np.quantile(np.where(empty, -np.inf, means), 0.025, method="lower")
    high = np.quantile(np.where(empty, np.inf, means), 0.975, method="higher")
    pvalue = min(1.0, float(2 * min(tails)))
    return TTest(mean / error, pvalue, n - 1, mean, float(low), float(high), error)


def pairing_test(values: np.ndarray, n_blocks: int) -> float:
    """Two-sided p of the true pairs' mean, by permuting which candidate a query's own is.

    Blocks of neighbouring candidates move together, from a random start, so that permuted pairs
    keep the likeness of neighbours; p is (k + 1) / (N + 1) of N permutations.

    Args:
        values: What each query would score if each candidate were its own, `[n, n]`, queries and
            candidates in the order of time.
        n_blocks: Blocks of equal length that move; n or more for single candidates.
    """
    own = np.arange(len(values))
    found = values[own, _permutations(len(values), n_blocks)].mean(axis=1)
    observed, rounding = values.diagonal().mean(), 1e-12  # means that add values in another order
    reached = (found >= observed - rounding).sum(), (found <= observed + rounding).sum()
    return float(min(1.0, 2 * (1 + min(reached)) / (1 + PERMUTATIONS)))


@cache
def _permutations(n: int, n_blocks: int) -> np.ndarray:
    """Permutations of n in blocks of neighbours, `[PERMUTATIONS, n]`."""
    generator = np.random.default_rng(0)
    permutations = np.empty((PERMUTATIONS, n), np.int32)
    for permutation in permutations:
        blocks = np.array_split(np.roll(np.arange(n), generator.integers(n)), min(n_blocks, n))
        permutation[:] = np.concatenate([blocks[i] for i in generator.permutation(len(blocks))])
    return permutations


def crossed_ttest(differences: np.ndarray) -> TTest:
    """Test over subjects who met the same stimuli; both stand for others (Clark 1973, min F').

    The standard error is sqrt(SE_subjects^2 + SE_stimuli^2), each that of the mean's marginal
    means. Degrees of freedom are those of the fewer of both: Clark's, by Satterthwaite, are those
    of the stimuli where a few subjects happen to agree, and false claims abound. A test over
    subjects alone treats the stimuli as all there are.

    Args:
        differences: Differences `[subjects, stimuli]`, means over seeds.

    Raises:
        ValueError: Fewer than two subjects or stimuli.
    """
    if min(differences.shape) < 2:
        raise ValueError(f"expected two subjects and stimuli at least, got {differences.shape}")
    margins = [differences.mean(axis=1), differences.mean(axis=0)]
    squared = sum(float(margin.var(ddof=1)) / len(margin) for margin in margins)
    mean, largest = float(differences.mean()), float(np.abs(differences).max())
    return _ttest(mean, math.sqrt(squared), min(differences.shape) - 1, largest)


def _ttest(mean: float, error: float, df: float, largest: float) -> TTest:
    """The t-test of a mean of differences of which `largest` is the largest magnitude."""
    mean, error = _without_rounding([mean, error], largest).tolist()
    if not error:  # as of 0.6 - 0.5 and 0.5 - 0.4, which are not quite equal
        return _not_testable(mean, df)
    margin = float(stats.t.ppf(0.975, df)) * error
    pvalue = float(2 * stats.t.sf(abs(mean / error), df))
    return TTest(mean / error, pvalue, df, mean, mean - margin, mean + margin, error)


def _without_rounding(values: ArrayLike, largest: float) -> np.ndarray:
    """Set values to 0 that are errors of rounding, as 0.1 + 0.2 - 0.3 is.

    Args:
        values: Means of differences, or their standard errors.
        largest: The largest magnitude among the differences.
    """
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(values) <= ROUNDING * largest, 0.0, values)


def _not_testable(mean: float, df: float) -> TTest:
    return TTest(math.nan, 1.0, df, mean, -math.inf, math.inf, math.nan)


def not_testable(differences: np.ndarray) -> TTest:
    """The test of differences `[J]` whose spread nothing estimates: their mean alone is known."""
    mean = _without_rounding(differences.mean(), float(np.abs(differences).max()))
    return _not_testable(float(mean), len(differences) - 1)


def naive_ttest(differences: ArrayLike) -> TTest:
    """The ordinary t-test, which treats seeds as independent; shown beside the corrected one.

    Raises:
        ValueError: See `corrected_resampled_ttest`.
    """
    return corrected_resampled_ttest(differences, n_train=1, n_test=0)


def holm(pvalues: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a declared family of p-values, in their order.

    The i-th smallest of m is multiplied by m - i + 1; none may fall below a smaller one, and none
    exceeds 1.

    Raises:
        ValueError: A p-value lies outside [0, 1].
    """
    p = _pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def benjamini_hochberg(pvalues: Sequence[float] | np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's (1995) adjustment of a declared family of p-values, in their order.

    The i-th smallest of m is multiplied by m / i; none may exceed a larger one, and none exceeds 1.
    Those that are at most q are a selection whose expected share of false claims is at most q,
    where the tests are independent or positively dependent, as those of neighbours are.

    Raises:
        ValueError: A p-value lies outside [0, 1].
    """
    p = _pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return adjusted


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def effect_size(differences: ArrayLike) -> float:
    """Cohen's d of paired differences: their mean in standard deviations (ddof 1).

    NaN where all differences are equal.

    Raises:
        ValueError: Fewer than two differences, or a value that is not finite.
    """
    return naive_ttest(differences).statistic / math.sqrt(len(np.asarray(differences)))


def win_share(first: ArrayLike, second: ArrayLike) -> float:
    """P(A > B): the share of seeds at which A beats B (Bouthillier et al. 2021, section 4).

    A tie counts half. There is no interval: those in use treat seeds as independent, and seeds of
    one recording are not.

    Args:
        first: Scores of A by seed, `[J]`.
        second: Scores of B at the same seeds, `[J]`.

    Raises:
        ValueError: The scores are not paired, or not finite, or none.
    """
    a, b = _finite_vector(first), _finite_vector(second)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"expected scores at the same seeds, got {len(a)} and {len(b)}")
    return float(((1 + np.sign(a - b)) / 2).mean())


def interquartile_mean(scores: Sequence[ArrayLike]) -> Estimate:
    """Mean of the middle half of all runs (Agarwal et al. 2021), over recordings and seeds.

    Each run counts once, so a recording of more seeds counts for more. The bootstrap is stratified:
    it draws seeds within each recording again, so it tells how sure the value is for these
    recordings, not for others.

    Args:
        scores: Scores of each recording, `[J]`; recordings may differ in J, their number of seeds.

    Raises:
        ValueError: A recording has no score, or one that is not finite, or there is no recording.
    """
    recordings = [_finite_vector(row) for row in scores]
    sizes = [len(row) for row in recordings]
    if not sizes or not all(sizes):
        raise ValueError(f"expected scores of every recording, got {sizes}")
    # Not scipy.stats.bootstrap: the interval is the same, but it refuses a recording of one seed.
    generator = np.random.default_rng(0)
    drawn = [row[generator.integers(len(row), size=(RESAMPLES, len(row)))] for row in recordings]
    means = stats.trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    value = float(stats.trim_mean(np.concatenate(recordings), 0.25))
    return Estimate(value, *_percentiles(means))


def two_way_bootstrap(values: np.ndarray) -> Estimate:
    """Mean over subjects who met the same stimuli, drawing both again, each with all of its own.

    Owen's (2007) pigeonhole bootstrap, whose variance has the parts of subjects and of stimuli, and
    three times that of both together: at large sizes it errs on the safe side. Percentiles alone
    are too narrow for few subjects; these are as far out as Student's t is beyond the normal, with
    the degrees of freedom of the fewer (Hesterberg 2015, expanded percentiles).

    Args:
        values: Scores, or differences, `[subjects, stimuli]`, means over seeds.

    Raises:
        ValueError: Fewer than `ENOUGH_TO_DRAW` subjects or stimuli.
    """
    fewer = min(values.shape)
    if fewer < ENOUGH_TO_DRAW:
        raise ValueError(f"expected {ENOUGH_TO_DRAW} of both at least, got {values.shape}")
    by_subject, by_stimulus = (_drawn_shares(n, side) for side, n in enumerate(values.shape))
    means = np.einsum("rs,rs->r", by_subject @ values, by_stimulus)
    beyond = math.sqrt(fewer / (fewer - 1)) * stats.t.ppf(0.975, fewer - 1)
    share = float(stats.norm.sf(beyond))
    low, high = np.quantile(means, (share, 1 - share))
    return Estimate(float(values.mean()), float(low), float(high))


@cache
def _drawn_shares(n: int, seed: int) -> np.ndarray:
    """Shares of n units in samples of n of them, `[RESAMPLES, n]`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n


class SignedRankTest(NamedTuple):
    """Wilcoxon's test: two-sided p, and the smallest p that this number of seeds can reach."""

    pvalue: float
    smallest: float


def wilcoxon_signed_rank(differences: ArrayLike) -> SignedRankTest:
    """Wilcoxon's signed-rank test; zeros are dropped, as Wilcoxon did.

    Exact up to 50 seeds without ties; with ties, as SciPy approximates it.

    Like the naive t-test it treats seeds as independent, and is shown for comparison only.

    Raises:
        ValueError: No difference, or a value that is not finite.
    """
    d = _finite_vector(differences).round(12)  # two that differ by rounding alone tie in rank
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


def correlated_bayesian_ttest(test: TTest, equivalence: float) -> Posterior:
    """Bayesian correlated t-test (Benavoli et al. 2017, section 3.1).

    The posterior of the mean difference under a flat prior is Student's t with the test's degrees
    of freedom, at the mean, in standard errors: for the corrected resampled t-test
    sqrt((1/J + n_test/n_train) * var(d)). NaN where the differences are not testable.

    Args:
        test: The test of the same differences.
        equivalence: Differences up to this much, in either direction, mean nothing in practice.

    Raises:
        ValueError: The region of equivalence is negative.
    """
    if equivalence < 0:
        raise ValueError(f"the region of equivalence must not be negative, got {equivalence}")
    if not test.testable:
        return Posterior(math.nan, math.nan, math.nan)
    posterior = stats.t(test.df, test.mean, test.error)
    below, above = float(posterior.cdf(-equivalence)), float(posterior.sf(equivalence))
    return Posterior(below, 1 - below - above, above)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _pvalues(values: Sequence[float] | np.ndarray) -> np.ndarray:
    p = _finite_vector(values)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"p-values must be in [0, 1], got {p.min():g} to {p.max():g}")
    return p


def _finite_vector(values: ArrayLike) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"expected one value per seed, got an array of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"values must be finite, got {vector[~np.isfinite(vector)][0]}")
    return vector
