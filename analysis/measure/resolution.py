"""How finely scores are known: by the digits that they are written with, and as shares of hits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from analysis.measure.inference import least_variance_of_hits

_SHARES_OF_HITS = re.compile(r"(recall|top|hits?|acc)(\b|[-_@ \d]|uracy).*")
_EXACT = 1e-6  # of a hit: digits that programs write, and not people
PROGRAM_DIGITS = 7
"""Decimals from which a number is a program's, and tells what it is a share of."""
_MOST_ITEMS, _SAME_SHARE = 10_000, 1e-12


class Resolution(NamedTuple):
    """What limits the scores of a table.

    Attributes:
        rounded: What each score may be off by because of its digits.
        n_test: Items of the test split; 0 where nothing is known of them.
        whole: What a score is if all items are hits, 1 or 100; 0 where it is no share of hits.
    """

    rounded: float
    n_test: int
    whole: float

    @property
    def of_hits(self) -> bool:
        """Whether scores are known to be shares of so many hits."""
        return bool(self.whole and self.n_test)

    def smallest_variance(self, differences: np.ndarray, n_train: int) -> float:
        """The variance that differences `[J]` are not trusted below, in the unit of the scores."""
        if not self.of_hits:
            return 0.0
        shares = np.clip(differences / self.whole, -1, 1)
        return self.whole**2 * least_variance_of_hits(shares, n_train, self.n_test)

    def variance_of_hits(self, scores: np.ndarray) -> float:
        """The binomial variance of scores `[J]` over items, mean over seeds; 0 if unknown.

        Of differences it is McNemar's least one, see `least_variance_of_hits`.
        """
        if not self.of_hits:
            return 0.0
        shares = np.clip(np.abs(scores) / self.whole, 0, 1)
        return self.whole**2 * float(np.mean(shares * (1 - shares))) / self.n_test


def resolution_of(
    metric: str, scores: Iterable[float], decimals: int, n_test: int, whole: float
) -> Resolution:
    """Tell how finely the scores of a table are known.

    They are shares of hits if all can be multiples of one item of the test split, or if the name
    of their column says so: test splits of several sizes have no common multiple.

    Args:
        metric: The name of their column.
        scores: All of them.
        decimals: The most digits behind the point that any is written with.
        n_test: Items of the test split; 0 where seeds share them.
        whole: 1 for fractions, 100 for percentages; 0 where neither.
    """
    rounded = 0.5 * 10.0**-decimals if decimals else 0.0
    if not (whole and n_test):
        return Resolution(rounded=rounded, n_test=n_test, whole=0.0)
    hits = np.array(list(scores)) * (n_test / whole)
    off = float(np.abs(hits - np.round(hits)).max(initial=0.0))
    is_share = off <= rounded * n_test / whole + _EXACT or bool(
        _SHARES_OF_HITS.fullmatch(metric.strip().casefold())
    )
    return Resolution(
        rounded=0.0 if is_share and off < _EXACT else rounded,
        n_test=n_test,
        whole=whole if is_share else 0.0,
    )


def exact_resolution(scores: Mapping[str, np.ndarray], whole: float) -> Resolution:
    """Tell from the scores of one recording alone how many items they are shares of.

    It is the least number of items that makes every score of a seed a whole number of hits; of all
    seeds, the most. It may fall short of the true number, and never exceeds it.

    Args:
        scores: Scores `[J]` by configuration, as a program computed them.
        whole: 1 for fractions, 100 for percentages; 0 where neither.
    """
    n_test = 0
    for of_seed in zip(*scores.values(), strict=True) if whole else ():
        n_test = max(n_test, _items([float(score) / whole for score in of_seed]))
    return Resolution(rounded=0.0, n_test=n_test, whole=whole if n_test else 0.0)


def _items(shares: list[float]) -> int:
    """The least number that all shares are whole hits of; 0 where there is none."""
    found = [Fraction(share).limit_denominator(_MOST_ITEMS) for share in shares]
    off = max(abs(float(each) - share) for each, share in zip(found, shares, strict=True))
    items = math.lcm(*(each.denominator for each in found))
    return items if off <= _SAME_SHARE and items <= _MOST_ITEMS else 0
