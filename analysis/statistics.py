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


def _finite_vector(values: ArrayLike) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"expected one value per seed, got an array of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"values must be finite, got {vector[~np.isfinite(vector)][0]}")
    return vector
