"""Sanity checks of a map: whether what has learned nothing, or says nothing, has the same map.

A method that explains an encoder may show what the input looks like, whatever the encoder learned
(Adebayo et al. 2018, "Sanity checks for saliency maps"). So the real map is correlated with that of
encoders of the same architecture with random weights, with those of permuted pairings, and with
that of encoders that the Gaussian-noise control trained: on noise of the same lengths, in which
nothing but the padding tells sentences apart. And the pairings are permuted among sentences of
similar duration: what is left of the map then is of how long sentences are.
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

Check = Literal["untrained encoder", "permuted pairs", "similar durations", "Gaussian noise"]

AGREES = 0.5
"""Rank correlation from which on a check's map counts as the same as the real one."""
_SAME: dict[Check, str] = {
    "untrained encoder": "an untrained encoder has the same map",
    "permuted pairs": "permuted pairs have the same map",
    "similar durations": "it is of how long sentences are",
    "Gaussian noise": "encoders trained on noise of the same lengths have the same map",
}
LEFT = 0.5
"""Share of an effect from which on it is of durations, where pairs of similar ones leave it."""
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
        left: Share of what the shown parts carry that the check leaves; NaN where it leaves out
            nothing, or no part is shown.
    """

    check: Check
    correlation: float
    pvalue: float
    largest: float
    contradicts: bool
    left: float = math.nan


def check_untrained(real: EffectMap, untrained: EffectMap) -> Checked:
    """Compare a map with that of an encoder of the same architecture with random weights.

    An untrained map that is like the real one, and whose largest effect is more than permuted
    pairings give, is suspicious: the map then shows what the input or the architecture is like, and
    not what training has learned. Noise alone is like the real map now and then, but is small.

    Args:
        real: The map of the trained encoders.
        untrained: The map of the untrained ones, at the same seeds or the first of them.
    """
    return _check_other("untrained encoder", real, untrained)


def check_noise(real: EffectMap, noise: EffectMap) -> Checked:
    """Compare a map with that of the Gaussian-noise control's encoders.

    They are trained and tested on noise of the same lengths, so that their map is of what tells
    sentences apart without a brain: where the padding begins. A noise map that is like the real one
    and large is suspicious: windows behind the end of sentences then carry the score, or all
    electrodes alike, because they show how long a sentence was. A noise map that singles out
    electrodes would be suspicious too, of the noise: it is independent between electrodes.

    Args:
        real: The map of the trained encoders.
        noise: The map of the control's, at the same seeds or the first of them.
    """
    return _check_other("Gaussian noise", real, noise)


def _check_other(check: Check, real: EffectMap, other: EffectMap) -> Checked:
    """Whether other encoders have the same map, and a large one."""
    correlation = rank_correlation(real.means, other.means)
    pvalue = _shuffled_pvalue(real.means, other.means, correlation)
    largest = float(other.means.max())
    limit = real.threshold if math.isfinite(real.threshold) else 0.0
    return Checked(
        check=check,
        correlation=correlation,
        pvalue=pvalue,
        largest=largest,
        contradicts=correlation >= AGREES and pvalue < ALPHA and largest > limit,
    )


def check_similar(real: EffectMap) -> Checked:
    """Compare a map with what is left of it among sentences of similar duration.

    Every query is paired with others of similar duration than its own. Effects that are of the
    words are gone then. What is left of an effect is of how long its sentence was: by its end, or
    by the padding behind it. Half of the shown effects or more left is suspicious, above all in
    windows behind the end of most sentences. Where all sentences last as long, nothing is left.

    Args:
        real: The map of the true pairing, which knows of durations.
    """
    assert real.similar is not None
    left, shown = real.similar.mean(axis=0), real.found
    correlation = rank_correlation(real.means, left)
    share = float(left[shown].sum() / real.means[shown].sum()) if shown.any() else math.nan
    return Checked(
        check="similar durations",
        correlation=correlation,
        pvalue=_shuffled_pvalue(real.means, left, correlation),
        largest=float(left.max()),
        contradicts=share >= LEFT,
        left=share,
    )


def of_durations(real: EffectMap) -> np.ndarray:
    """Which parts `[K]` bool are shown to carry the score, but half of it or more by durations."""
    if real.similar is None:
        return np.zeros(len(real.parts), bool)
    largely: np.ndarray = real.found & (real.similar.mean(axis=0) >= LEFT * real.means)
    return largely


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
    n, of_length = int(real.found.sum()), int(of_durations(real).sum())
    if not n:
        return "nothing shown"
    shown = f"{n} of {len(real.parts)} shown"
    return f"{shown}, {of_length} by how long sentences are" if of_length else shown


def _shuffled_pvalue(first: np.ndarray, second: np.ndarray, correlation: float) -> float:
    """How often shuffled parts are as alike as two maps, as (n + 1) / (draws + 1)."""
    if math.isnan(correlation):
        return 1.0
    ranks, others = (rankdata(each) for each in (first, second))
    draws = np.random.default_rng(0).permuted(np.tile(others, (_DRAWS, 1)), axis=1)
    products = draws @ (ranks - ranks.mean())  # in the order of the correlations
    reached = int((products >= others @ (ranks - ranks.mean()) - 1e-9).sum())
    return (reached + 1) / (_DRAWS + 1)
