"""How finely scores are known: by the digits that they are written with, and as shares of hits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from analysis.measure.inference import least_variance_of_hits

_SHARES_OF_HITS = re.compile(r"(recall|top|hits?|acc)(\b|[-_@ \d]|uracy).*")
_EXACT = 1e-6  # of a hit: digits that programs write, and not people


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

    def smallest_variance(self, differences: np.ndarray, n_train: int) -> float:
        """The variance that differences `[J]` are not trusted below, in the unit of the scores."""
        if not (self.whole and self.n_test):
            return 0.0
        shares = np.clip(differences / self.whole, -1, 1)
        return self.whole**2 * least_variance_of_hits(shares, n_train, self.n_test)


def resolution_of(
    metric: str, scores: Iterable[float], decimals: int, n_test: int, whole: float
) -> Resolution:
    """Tell how finely the scores of a table are known.

    Args:
        metric: The name of their column.
        scores: All of them.
        decimals: The most digits behind the point that any is written with.
        n_test: Items of the test split; 0 where seeds share them.
        whole: 1 for fractions, 100 for percentages; 0 where neither.
    """
    is_share = bool(whole and _SHARES_OF_HITS.fullmatch(metric.strip().casefold()))
    hits = np.array(list(scores)) * (n_test / whole if is_share else np.nan)
    is_exact = is_share and n_test > 0 and bool((np.abs(hits - np.round(hits)) < _EXACT).all())
    rounded = 0.0 if is_exact or not decimals else 0.5 * 10.0**-decimals
    return Resolution(rounded=rounded, n_test=n_test, whole=whole if is_share else 0.0)
