"""Sanity checks of a map: whether what has learned nothing, or says nothing, has the same map.

A method that explains an encoder may show what the input looks like, whatever the encoder learned
(Adebayo et al. 2018, "Sanity checks for saliency maps"). So the map of an encoder of the same
architecture with random weights, and those of permuted pairings, are correlated with the real one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from analysis.mapping.effects import EffectMap, rank_correlation
from ssense.engine.core.power import ALPHA

Check = Literal["untrained encoder", "permuted pairs"]

AGREES = 0.5
"""Rank correlation from which on a check's map counts as the same as the real one."""
_SAME: dict[Check, str] = {
    "untrained encoder": "an untrained encoder has the same map",
    "permuted pairs": "permuted pairs have the same map",
}
_DRAWS = 2000
_MOST_PERMUTED = 200


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a sanity check says of a map.

    Attributes:
        check: The check.
        correlation: Spearman's correlation of its map with the real one, mean over permutations
            where there are many; NaN where one of the two is the same everywhere.
        pvalue: How often a map of shuffled parts would be as alike; NaN where there are many maps.
        largest: The largest effect in the check's own map, as a fraction.
        contradicts: Whether what the real map shows is not what the encoder learned of the pairs.
    """

    check: Check
    correlation: float
    pvalue: float
    largest: float
    contradicts: bool


def check_untrained(real: EffectMap, untrained: EffectMap) -> Checked:
    """Compare a map with that of an encoder of the same architecture with random weights.

    An untrained map that is like the real one, and whose largest effect is more than permuted
    pairings give, is suspicious: the map then shows what the input or the architecture is like, and
    not what training has learned. Noise alone is like the real map now and then, but is small.

    Args:
        real: The map of the trained encoders.
        untrained: The map of the untrained ones, at the same seeds.
    """
    correlation = rank_correlation(real.means, untrained.means)
    pvalue = _shuffled_pvalue(real.means, untrained.means, correlation)
    largest = float(untrained.means.max())
    limit = real.threshold if math.isfinite(real.threshold) else 0.0
    return Checked(
        check="untrained encoder",
        correlation=correlation,
        pvalue=pvalue,
        largest=largest,
        contradicts=correlation >= AGREES and pvalue < ALPHA and largest > limit,
    )


def check_permuted(real: EffectMap, permuted: np.ndarray) -> Checked:
    """Compare a map with those of permuted pairings, each of which has lost what links the two.

    Their mean correlation is about 0 where effects are those of the pairing. Maps that are like the
    real one whatever is paired are suspicious: some parts then change which sentences are
    retrieved at all, for whoever asks.

    Args:
        real: The map of the true pairing.
        permuted: Effects `[P, K]` by permutation, mean over the seeds; one at least.
    """
    found = [rank_correlation(real.means, each) for each in permuted[:_MOST_PERMUTED]]
    known = [each for each in found if math.isfinite(each)]
    correlation = float(np.mean(known)) if known else math.nan
    return Checked(
        check="permuted pairs",
        correlation=correlation,
        pvalue=math.nan,
        largest=real.threshold,
        contradicts=correlation >= AGREES,
    )


def label(real: EffectMap, checks: Sequence[Checked]) -> str:
    """What a map is called in tables: contradicted, empty, or what it shows, in words."""
    contradicting = [_SAME[each.check] for each in checks if each.contradicts]
    if contradicting:
        return f"contradicted: {' and '.join(contradicting)}"
    n = int(real.found.sum())
    return f"{n} of {len(real.parts)} shown" if n else "nothing shown"


def _shuffled_pvalue(first: np.ndarray, second: np.ndarray, correlation: float) -> float:
    """How often shuffled parts are as alike as two maps, as (n + 1) / (draws + 1)."""
    if math.isnan(correlation):
        return 1.0
    ranks, others = (rankdata(each) for each in (first, second))
    draws = np.random.default_rng(0).permuted(np.tile(others, (_DRAWS, 1)), axis=1)
    products = draws @ (ranks - ranks.mean())  # in the order of the correlations
    reached = int((products >= others @ (ranks - ranks.mean()) - 1e-9).sum())
    return (reached + 1) / (_DRAWS + 1)
