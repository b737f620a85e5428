"""What an effect is over subjects, of which each has its own, measured with an error of its own.

Subject i shows y_i with the standard error s_i, and its true effect is drawn from a normal
distribution of mean mu and standard deviation tau: a claim about people is one about mu, and what a
new subject would show is spread by tau besides. Weights are w_i = 1 / (s_i² + tau²).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from analysis.measure.inference import RESAMPLES

FEWEST_TO_PREDICT = 3
"""Subjects that it takes to say anything of a new one: fewer leave no degree of freedom."""

_CONFIDENCE = 0.95
_GRID = 400  # values of tau², from none to more than any data say


class RandomEffects(NamedTuple):
    """An effect over subjects.

    Attributes:
        mean: The mean over all subjects that there might be, mu.
        error: Its standard error, of Hartung and Knapp (2001).
        low: Lower end of the mean's 95 % confidence interval.
        high: Upper end of the same interval.
        pvalue: The two-sided p-value of mu = 0.
        df: Degrees of freedom, one less than there are subjects.
        tau: Standard deviation of the true effects over subjects, of Paule and Mandel (1982).
        i_squared: Share of the variance between subjects' effects that their errors do not explain
            (Higgins and Thompson 2002), from 0 to 1.
        predicted_low: Lower end of the 95 % interval of what a new subject's true effect would be;
            NaN for fewer than three subjects.
        predicted_high: Upper end of the same interval.
        weights: Share of each subject in the mean, `[subjects]`.
    """

    mean: float
    error: float
    low: float
    high: float
    pvalue: float
    df: int
    tau: float
    i_squared: float
    predicted_low: float
    predicted_high: float
    weights: np.ndarray


def random_effects(effects: ArrayLike, errors: ArrayLike) -> RandomEffects:
    """Combine the effects of subjects, each with its standard error.

    With equal errors it is the t-test over subjects. The interval by Hartung and Knapp holds for
    few subjects, where that of a normal distribution is too narrow.

    Suspicious would be a tau of 0 beside effects of opposite sign and small errors, or an interval
    that is narrower than that of the best-measured subject: three subjects that happen to agree.

    Args:
        effects: Effects `[subjects]`, two at least.
        errors: Their standard errors `[subjects]`, above 0.

    Raises:
        ValueError: There are fewer than two subjects, an error for each is lacking, or a value is
            not finite or an error not above 0.
    """
    y, s = np.asarray(effects, np.float64), np.asarray(errors, np.float64)
    if y.ndim != 1 or len(y) < 2 or y.shape != s.shape:
        raise ValueError(f"need effects and errors of two subjects at least: {y.shape}, {s.shape}")
    if not (np.isfinite(y).all() and np.isfinite(s).all() and (s > 0).all()):
        raise ValueError("effects must be finite, and their errors finite and above 0")
    df = len(y) - 1
    tau2 = _between_variance(y, s**2)
    (mean,), (error,), (weights,) = _means(y, s**2, np.array([tau2]))
    reach = float(stats.t.isf((1 - _CONFIDENCE) / 2, df)) * error
    predicted = _predicted(y, s**2) if len(y) >= FEWEST_TO_PREDICT else (math.nan, math.nan)
    return RandomEffects(
        mean=float(mean),
        error=float(error),
        low=float(mean - reach),
        high=float(mean + reach),
        pvalue=float(2 * stats.t.sf(abs(mean) / error, df)) if error else float(mean == 0),
        df=df,
        tau=math.sqrt(tau2),
        i_squared=tau2 / (tau2 + _typical_variance(s**2)),
        predicted_low=predicted[0],
        predicted_high=predicted[1],
        weights=weights,
    )


def _means(
    y: np.ndarray, variances: np.ndarray, tau2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted means, their errors, and weights that sum to 1, for each of several tau²."""
    weights = 1 / (variances + tau2[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    means = weights @ y
    squares = (weights * (y - means[:, None]) ** 2).sum(axis=1)
    return means, np.sqrt(squares / (len(y) - 1)), weights


def _squares(y: np.ndarray, variances: np.ndarray, tau2: np.ndarray) -> np.ndarray:
    """Weighted squares about the weighted mean: chi-squared if tau² is the true one."""
    means, _, _ = _means(y, variances, tau2)
    found: np.ndarray = ((y - means[:, None]) ** 2 / (variances + tau2[:, None])).sum(axis=1)
    return found


def _between_variance(y: np.ndarray, variances: np.ndarray) -> float:
    """tau²: where the weighted squares about the mean are what their number expects, or 0."""

    def excess(tau2: float) -> float:
        return float(_squares(y, variances, np.array([tau2]))[0]) - (len(y) - 1)

    if excess(0.0) <= 0:
        return 0.0
    # Each square is at most that over tau², so that it is below what is expected here.
    most = float(np.ptp(y) ** 2) * len(y)
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-12 * most))


def _typical_variance(variances: np.ndarray) -> float:
    """What the subjects' own variances come to in I² (Higgins and Thompson 2002, equation 9)."""
    weights = 1 / variances
    return float((len(weights) - 1) * weights.sum() / (weights.sum() ** 2 - (weights**2).sum()))


def _predicted(y: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of a new subject's true effect, over all tau² that the squares allow.

    With tau² as estimated, intervals hold a new subject in 86 of 100 cases only (5 to 10 subjects,
    half of the variance theirs), as few subjects often show none by accident. The weighted squares
    are chi-squared at the true tau² (Viechtbauer 2007), so each draw from that gives a tau² which
    they would have come from, and a mean and a new subject by it (as Nagashima et al. 2019 draw
    them, with another distribution of tau²).
    """
    rng = np.random.default_rng(0)
    df = len(y) - 1
    scale = float(variances.max() + np.ptp(y) ** 2)
    grid = np.concatenate([[0.0], scale * np.geomspace(1e-8, 1e8, _GRID)])
    squares = _squares(y, variances, grid)
    drawn = rng.chisquare(df, RESAMPLES)
    tau2 = np.interp(drawn, squares[::-1], grid[::-1])  # more than at tau² = 0 gives 0
    means, errors, _ = _means(y, variances, tau2)
    new = (
        means + rng.standard_t(df, RESAMPLES) * errors + rng.normal(size=RESAMPLES) * np.sqrt(tau2)
    )
    low, high = np.percentile(new, [50 * (1 - _CONFIDENCE), 50 * (1 + _CONFIDENCE)])
    return float(low), float(high)
