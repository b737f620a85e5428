"""A learning curve: how a score grows with the minutes that are trained on, and what more may give.

Every seed has a score at every share of its training data. Three curves are fitted to them (Viering
and Loog 2023, "The shape of learning curves: a review", has these and others):

    straight line     a + b m
    logarithmic line  a + b ln m
    power law         a - b m^-c,  c > 0, which levels off at a

Seeds differ in how hard their test splits are, but meet all shares on the same one. So each has a
level of its own, and least squares see what changes within seeds. All three are lines in one
transform of the minutes m, M the most of them, of which c is the only other parameter:

    score = level of the seed + slope * x(m),  x(m) = (1 - (m/M)^-c) / c

with c = -1 for the straight line and its limit at c = 0, ln(m/M), for the logarithmic one.

Which curves the scores support is said by AICc (Hurvich and Tsai 1989): a curve `SUPPORT` behind
the best has considerably less support (Burnham and Anderson 2002, section 2.6). Seeds whose splits
overlap tell curves apart by less than their number; AICc is QAICc then (their section 2.5), for the
variance inflation that the corrected resampled t-test allows for. A mean of its own for each share
is compared with the curves too: where it is that much better, the scores follow none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import stats

from analysis.measure.families import numbers_of
from analysis.measure.inference import Estimate
from ssense.engine.core.sweep import Sweep
from ssense.training.sentences import SHARE

CurveName = Literal["straight line", "logarithmic line", "power law"]
CURVES = get_args(CurveName)

FEWEST_SHARES = 4
"""Shares that a curve needs: three parameters go through any three."""
FURTHEST = 2.0
"""How many times the most minutes a curve is extrapolated to, and no further."""
SUPPORT = 4.0
"""How far in AICc a curve may be behind the best one and still be one that the scores support."""

SAMPLES = 2_000
"""Samples of seeds that the bootstrap draws, from seed 0: reports come out the same."""

_EXPONENTS: Mapping[CurveName, np.ndarray] = {
    "straight line": np.array([-1.0]),
    "logarithmic line": np.array([0.0]),
    "power law": np.geomspace(0.05, 4.0, 100),  # from nearly logarithmic to flat at once
}
_HIT_VARIANCE = 1 / 4  # of a score whose last hit is as likely as not, in squared hits
_LEAST_RSS = 1e-24  # per score: below it, residuals are rounding


class _Fit(NamedTuple):
    """Least squares of each of B samples of seeds, `[B]` each.

    Attributes:
        exponent: The exponent c of the curve.
        slope: Growth of the score along x(m).
        level: Score at the most minutes, mean over the seeds.
        rss: Sum of the squared residuals.
    """

    exponent: np.ndarray
    slope: np.ndarray
    level: np.ndarray
    rss: np.ndarray

    def at(self, ratio: float) -> np.ndarray:
        """Scores `[B]` at a multiple of the most minutes; a share is between 0 and 1."""
        scores: np.ndarray = self.level + self.slope * _x(ratio, self.exponent)
        return scores.clip(0.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedCurve:
    """One curve that is fitted to the scores of all seeds.

    Attributes:
        name: Which curve it is.
        minutes: Minutes trained on, `[seeds, shares]`, the most last.
        scores: Scores by seed and share, `[seeds, shares]`, as fractions.
        inflation: How much larger the variance of a mean over seeds is than of independent ones.
    """

    name: CurveName
    minutes: np.ndarray
    scores: np.ndarray
    inflation: float

    @property
    def most_minutes(self) -> float:
        """The most minutes trained on, M, mean over the seeds."""
        return float(self.minutes[:, -1].mean())

    @property
    def aicc(self) -> float:
        """AICc of the fit; the smaller, the better."""
        n_shape = 2 if len(_EXPONENTS[self.name]) > 1 else 1
        return _aicc(float(self._fit.rss[0]), n_shape, self.scores.shape, self.inflation)

    @cached_property
    def _fit(self) -> _Fit:
        return self._of(np.ones((1, len(self.scores))))

    @cached_property
    def _samples(self) -> _Fit:
        n = len(self.scores)
        return self._of(np.random.default_rng(0).multinomial(n, [1 / n] * n, SAMPLES))

    def _of(self, drawn: np.ndarray) -> _Fit:
        ratios = self.minutes / self.most_minutes
        return _least_squares(ratios, self.scores, _EXPONENTS[self.name], drawn)

    @property
    def exponent(self) -> float:
        """The c of a power law; -1 of a straight line, and 0 of a logarithmic one."""
        return float(self._fit.exponent[0])

    @property
    def coefficients(self) -> tuple[float, float]:
        """The a and b of the curve, as the module writes it, for m in minutes."""
        slope, level = float(self._fit.slope[0]), float(self._fit.level[0])
        if self.name == "straight line":
            return level - slope, slope / self.most_minutes
        if self.name == "logarithmic line":
            return level - slope * math.log(self.most_minutes), slope
        b = slope / self.exponent
        return level + b, b * self.most_minutes**self.exponent

    def at(self, minutes: float) -> Estimate:
        """The score that is expected at some minutes, with its 95 % interval.

        Raises:
            ValueError: The minutes are beyond what is extrapolated to.
        """
        ratio = self._ratio(minutes)
        return self._estimate(self._fit.at(ratio), self._samples.at(ratio), (0.0, 1.0))

    def gain(self, minutes: float) -> Estimate:
        """How much higher it is than at the most minutes trained on, with its 95 % interval.

        Raises:
            ValueError: See `at`.
        """
        ratio = self._ratio(minutes)
        found, samples = (each.at(ratio) - each.at(1.0) for each in (self._fit, self._samples))
        return self._estimate(found, samples, (-1.0, 1.0))

    def _ratio(self, minutes: float) -> float:
        ratio = minutes / self.most_minutes
        if not 0 < ratio <= FURTHEST * (1 + 1e-9):
            raise ValueError(
                f"a curve of {self.most_minutes:g} minutes is extrapolated to {FURTHEST:g} times "
                f"as many, not to {minutes:g}"
            )
        return ratio

    def _estimate(
        self, found: np.ndarray, samples: np.ndarray, ends: tuple[float, float]
    ) -> Estimate:
        n, value = len(self.scores), float(found[0])
        few = n / (n - 1) * (stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975)) ** 2
        deviations = np.quantile(samples, (0.025, 0.975)) - value
        low, high = np.clip(value + math.sqrt(few * self.inflation) * deviations, *ends).tolist()
        return Estimate(value, low, high)


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningCurve:
    """The scores of seeds at shares of their training data, and the curves through them.

    Attributes:
        minutes: Minutes trained on, `[seeds, shares]`, the most last.
        scores: Scores by seed and share, `[seeds, shares]`, as fractions.
        curves: The three curves, the best one first.
        free_aicc: AICc of a mean of its own for each share.
        has_spread: Whether seeds differ by more than a hit is worth in how they grow. Where they
            don't, nothing says how sure a curve is.
    """

    minutes: np.ndarray
    scores: np.ndarray
    curves: tuple[FittedCurve, ...]
    free_aicc: float
    has_spread: bool = True

    @property
    def most_minutes(self) -> float:
        """The most minutes trained on, mean over the seeds."""
        return self.curves[0].most_minutes

    @property
    def furthest_minutes(self) -> float:
        """How far the curves are extrapolated."""
        return FURTHEST * self.most_minutes

    @cached_property
    def supported(self) -> tuple[FittedCurve, ...]:
        """The curves that the scores support, the best first.

        None where the scores follow none, or where no spread tells how sure one is.
        """
        if not self.has_spread:
            return ()
        best = self.curves[0].aicc
        if best - self.free_aicc >= SUPPORT:
            return ()
        return tuple(curve for curve in self.curves if curve.aicc - best < SUPPORT)


def shares_of(sweep: Sweep) -> dict[str, float]:
    """The share of the training data of each family, in order; where that is all they differ in.

    Returns:
        None of them where families differ in other fields too, where two have the same share, or
        where these are too few for a curve.
    """
    return numbers_of(sweep, SHARE, FEWEST_SHARES)


def fit_curves(
    minutes: np.ndarray, scores: np.ndarray, overlap: float = 0.0, n_test: int | None = None
) -> LearningCurve:
    """Fit the three curves to scores, and say how sure each is over seeds.

    The bootstrap draws whole seeds, with their scores at all shares. Its intervals are too narrow
    for few seeds, by sqrt((J - 1) / J) and by the quantiles of t and normal distribution
    (Hesterberg 2015, "What teachers should know about the bootstrap"); and, as splits of the same
    sentences overlap, by what the corrected resampled t-test allows for (Nadeau and Bengio 2003).
    Deviations from the estimate are widened by all three. Of a straight line over the same minutes
    at every seed, the interval is so that of the corrected test.

    Args:
        minutes: Minutes trained on, `[J, shares]`, J seeds, increasing along the shares.
        scores: Scores `[J, shares]`, as fractions.
        overlap: Test sentences for each training sentence of the whole split, n_test / n_train; 0
            where seeds share their test split, or are independent. A smaller share to train on
            makes seeds no more alike: their test splits overlap as before.
        n_test: Test sentences of a seed, each of which is a hit or none; None where scores have no
            such steps.

    Raises:
        ValueError: There is a single seed, or there are too few shares for a curve.
    """
    n_seeds, n_shares = scores.shape
    if n_seeds < 2 or n_shares < FEWEST_SHARES:
        raise ValueError(
            f"a learning curve needs 2 seeds and {FEWEST_SHARES} shares, got {n_seeds} and "
            f"{n_shares}"
        )
    inflation = 1 + n_seeds * overlap
    curves = [
        FittedCurve(name=name, minutes=minutes, scores=scores, inflation=inflation)
        for name in CURVES
    ]
    free = scores - scores.mean(axis=1, keepdims=True)
    rss = float(((free - free.mean(axis=0)) ** 2).sum())
    freedom = (n_seeds - 1) * (n_shares - 1)
    least = 0.0 if n_test is None else freedom * _HIT_VARIANCE / n_test**2
    return LearningCurve(
        minutes=minutes,
        scores=scores,
        curves=tuple(sorted(curves, key=lambda curve: curve.aicc)),
        free_aicc=_aicc(rss, n_shares - 1, scores.shape, inflation),
        has_spread=n_test is None or rss > least,
    )


def _x(ratio: float | np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The transform of minutes, as a multiple of the most, that a curve is a line in."""
    safe = np.where(exponent == 0, 1.0, exponent)
    return np.where(exponent == 0, np.log(ratio), (1 - np.power(ratio, -safe)) / safe)


def _least_squares(
    ratios: np.ndarray, scores: np.ndarray, exponents: np.ndarray, drawn: np.ndarray
) -> _Fit:
    """Fit a curve to samples of seeds, with the best of several exponents.

    Args:
        ratios: Minutes `[J, shares]` as multiples of the most.
        scores: Scores `[J, shares]`.
        exponents: Exponents `[C]` to choose from.
        drawn: How often each sample has each seed, `[B, J]`.
    """
    x = _x(ratios[:, :, None], exponents)  # [J, shares, C]
    x_within, y_within = (v - v.mean(axis=1, keepdims=True) for v in (x, scores))
    xx = drawn @ (x_within**2).sum(axis=1)
    xy = drawn @ (x_within * y_within[:, :, None]).sum(axis=1)
    yy = drawn @ (y_within**2).sum(axis=1)
    rss = yy[:, None] - xy**2 / xx
    best, sample = rss.argmin(axis=1), np.arange(len(drawn))
    slope = (xy / xx)[sample, best]
    mean_x = (drawn @ x.mean(axis=1))[sample, best] / drawn.sum(axis=1)
    mean_y = drawn @ scores.mean(axis=1) / drawn.sum(axis=1)
    return _Fit(exponents[best], slope, mean_y - slope * mean_x, rss[sample, best])


def _aicc(rss: float, n_shape: int, shape: tuple[int, ...], inflation: float) -> float:
    """AICc of a least-squares fit to scores `[seeds, shares]` with a level for each seed.

    Args:
        rss: Sum of the squared residuals.
        n_shape: Parameters of the curve besides the levels.
        shape: Number of seeds and of shares.
        inflation: How much larger the variance of a mean over seeds is than of independent ones.
    """
    n_seeds, n_shares = shape
    n = n_seeds * n_shares
    k = n_seeds + n_shape + 1  # and the variance of the residuals
    return n * math.log(max(rss / n, _LEAST_RSS)) / inflation + 2 * k * n / (n - k - 1)
