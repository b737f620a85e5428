"""The effects of parts over seeds: their tests, thresholds, and how far seeds agree on a map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from analysis.mapping.parts import ALONE, Part, What
from analysis.mapping.seed_map import SeedMap, chance_of
from analysis.measure.comparison import SHARES, above, bounded
from analysis.measure.inference import (
    TTest,
    benjamini_hochberg,
    corrected_resampled_ttest,
    holm,
    stimulus_tests,
    variance_of_stimuli,
)
from ssense.engine.core.power import ALPHA
from ssense.retrieval import metric_values

_SPLITS = 200
"""The most ways to halve the seeds that are tried for the split-half reliability."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """What tests over seeds must know of the splits.

    Attributes:
        n_train: Sentences trained on, mean over the seeds.
        n_test: Sentences tested, mean over the seeds: those that are queries of the map.
        blocks: Where all seeds share one test split, the blocks of neighbouring sentences that are
            the units of the tests; None where seeds draw test splits anew.
    """

    n_train: int
    n_test: int
    blocks: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectMap:
    """The effects of all parts of one kind on one metric.

    Attributes:
        what: The kind of the map.
        metric: The metric.
        parts: The K parts.
        by_seed: Effect `[J, K]` of each part at each seed, as fractions.
        scores: What the metric is without each part, or by it alone, `[J, K]`.
        tests: Test of each part's mean effect, with its 95 % interval.
        p_holm: Their p-values adjusted for the whole map by Holm, `[K]`.
        p_fdr: Their p-values adjusted by Benjamini and Hochberg, `[K]`.
        p_max: How often the largest effect under a permuted pairing reaches each effect, `[K]`;
            NaN where nothing was permuted.
        threshold: What the largest effect under a permuted pairing exceeds in 5 % of permutations;
            NaN where nothing was permuted.
        similar: Effect `[J, K]` at each seed where queries are paired with others of similar
            duration; None where that is not known.
    """

    what: What
    metric: str
    parts: Sequence[Part]
    by_seed: np.ndarray
    scores: np.ndarray
    tests: Sequence[TTest]
    p_holm: np.ndarray
    p_fdr: np.ndarray
    p_max: np.ndarray
    threshold: float
    similar: np.ndarray | None = None

    @property
    def means(self) -> np.ndarray:
        """The mean effect of each part, `[K]`."""
        return np.array([test.mean for test in self.tests])

    @property
    def found(self) -> np.ndarray:
        """Which parts `[K]` are shown to carry the score: by Holm, and above the threshold."""
        is_above = self.p_max <= ALPHA if math.isfinite(self.threshold) else self.means > 0
        return (self.p_holm < ALPHA) & (self.means > 0) & is_above

    @property
    def stability(self) -> float:
        """See `rank_stability`."""
        return rank_stability(self.by_seed)

    @property
    def reliability(self) -> float:
        """See `split_half_reliability`."""
        return split_half_reliability(self.by_seed)


def effect_maps(maps: Sequence[SeedMap], metric: str, sizes: Resampling) -> list[EffectMap]:
    """Test the parts' effects on a metric over the seeds, a map for each kind of part.

    Args:
        maps: What was found at each of two seeds or more, of the same parts.
        metric: The metric. Only effects on the one that was permuted have a threshold.
        sizes: What the tests must know of the splits.
    """
    parts = maps[0].parts
    values = [each.effects(metric) for each in maps]
    permuted = widening(len(maps), sizes) * np.mean([each.permuted for each in maps], axis=0)
    similar = [each.similar for each in maps if each.similar is not None]
    if metric != maps[0].permuted_metric:
        permuted, similar = permuted[:0], []
    return [
        _effect_map(what, metric, maps, values, permuted, similar, sizes)
        for what in dict.fromkeys(part.what for part in parts)
    ]


def _effect_map(
    what: What,
    metric: str,
    maps: Sequence[SeedMap],
    values: Sequence[np.ndarray],
    permuted: np.ndarray,
    similar: Sequence[np.ndarray],
    sizes: Resampling,
) -> EffectMap:
    at = [place for place, part in enumerate(maps[0].parts) if part.what == what]
    of_parts = [each[at] for each in values]
    tests = part_tests(of_parts, metric, sizes, is_alone=what in ALONE)
    pvalues = np.array([test.pvalue for test in tests])
    threshold, p_max = maximum_statistic(
        np.array([test.mean for test in tests]), permuted[:, at] if permuted.size else permuted
    )
    return EffectMap(
        what=what,
        metric=metric,
        parts=[maps[0].parts[place] for place in at],
        by_seed=np.stack([each.mean(axis=1) for each in of_parts]),
        scores=np.stack([metric_values(metric, each.occluded[at]).mean(axis=1) for each in maps]),
        tests=tests,
        p_holm=holm(pvalues),
        p_fdr=benjamini_hochberg(pvalues),
        p_max=p_max,
        threshold=threshold,
        similar=np.stack(similar)[:, at] if similar else None,
    )


def part_tests(
    values: Sequence[np.ndarray], metric: str, sizes: Resampling, *, is_alone: bool
) -> list[TTest]:
    """Test each part's mean effect over the seeds.

    Where seeds draw their own test splits, by the corrected resampled t-test with at least the
    sentences' own variance; where they share one, over its sentences in blocks of time.

    An effect of about the same size at every part is suspicious: it is then something that all of
    them share, such as the padding that shows how long a sentence was. So is a map full of effects
    below 0, by which an encoder would retrieve better without its input: it does not generalise.
    No effect of leaving out electrodes one by one, though electrodes alone have one, is not: what
    they say is then said by several.

    Args:
        values: What each query says of each part's effect, `[K, N]`, by seed.
        metric: The metric of the effects.
        sizes: What the tests must know of the splits.
        is_alone: Whether effects are differences from chance.
    """
    guesses = [metric_values(metric, np.arange(1.0, each.shape[1] + 1)) for each in values]
    chance = np.array([chance_of(metric, each.shape[1]) for each in values])
    bounds = above(chance) if is_alone else SHARES
    if sizes.blocks is not None:
        over_seeds = np.mean(values, axis=0).T
        found = stimulus_tests(over_seeds, sizes.blocks or len(over_seeds))
        return [bounded(test, bounds) for test in found]
    of_chance = variance_of_stimuli(guesses, sizes.n_train, sizes.n_test) if is_alone else 0.0
    tests = []
    for rows in zip(*values, strict=True):
        least = max(of_chance, variance_of_stimuli(rows, sizes.n_train, sizes.n_test))
        means = [row.mean() for row in rows]
        test = corrected_resampled_ttest(means, sizes.n_train, sizes.n_test, least)
        tests.append(bounded(test, bounds))
    return tests


def maximum_statistic(means: np.ndarray, permuted: np.ndarray) -> tuple[float, np.ndarray]:
    """A threshold over a whole map by the largest effect under permuted pairings.

    Holds for all parts of the map at once, however they depend on each other (Nichols and Holmes
    2002, "Nonparametric permutation tests for functional neuroimaging"). Under the null hypothesis
    the responses say nothing of which sentence is whose, so that it is a test of the map of parts
    alone. Of parts left out it tests less: a part may be above the threshold of a recording that
    says nothing, and yet add nothing to the others; the test over seeds answers that.

    A threshold at or below 0 would be suspicious: of many parts the best by chance is above 0. So
    would be more than a few parts above it in a recording that evokes nothing.

    Args:
        means: Mean effects `[K]`.
        permuted: Mean effects `[P, K]` under permuted pairings; of none, for no threshold.

    Returns:
        The threshold, and p for each part `[K]`: (n + 1) / (P + 1) where n permutations reach it.
    """
    if not permuted.size:
        return math.nan, np.full(len(means), math.nan)
    largest = np.sort(permuted.max(axis=1))
    rounding = 1e-12  # means that add values in another order
    reaching = len(largest) - np.searchsorted(largest, means - rounding)
    place = min(len(largest) - 1, math.ceil((1 - ALPHA) * (len(largest) + 1)) - 1)
    return float(largest[place]), (reaching + 1) / (len(largest) + 1)


def widening(seeds: int, sizes: Resampling) -> float:
    """By what permuted effects, mean over seeds, are widened before they are compared with.

    Seeds that draw their own splits share sentences, in training and in test, so that their effects
    go together, which those of pairings that each seed permutes by itself do not. The variance of
    a mean over J seeds is 1/J + n_test/n_train, not 1/J (Nadeau and Bengio 2003), of that of one.
    Without it, recordings that say nothing could exceed the threshold more often than they should;
    with it they do less often.

    Args:
        seeds: Number J of seeds.
        sizes: What is known of the splits.

    Returns:
        1 where all seeds share one test split, whose pairing is permuted alike for all.
    """
    if sizes.blocks is not None:
        return 1.0
    return math.sqrt(1 + seeds * sizes.n_test / sizes.n_train)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two maps `[K]`; NaN where one of them is the same everywhere."""
    return _correlation(rankdata(first), rankdata(second))


def rank_stability(by_seed: np.ndarray) -> float:
    """Spearman's correlation of the maps of two seeds, mean over all pairs of seeds.

    A value near 0 is suspicious: what one seed's map shows another's does not, and their mean is a
    matter of which seeds were taken. Seeds share most of their sentences, so that a high value says
    nothing of other sentences.

    Args:
        by_seed: Effects `[J, K]`.

    Returns:
        NaN where no two seeds have maps that vary.
    """
    pairs = [rank_correlation(*pair) for pair in combinations(by_seed, 2)]
    known = [each for each in pairs if math.isfinite(each)]
    return float(np.mean(known)) if known else math.nan


def split_half_reliability(by_seed: np.ndarray) -> float:
    """How well the mean map over all seeds would agree with one over as many others.

    The mean correlation r of the maps of two halves of the seeds, over many ways to halve them,
    stepped up to all seeds: 2 r / (1 + r) (Spearman 1910; Brown 1910). Where r is below 0, which
    has no such step, it is r. A value near 0 or below is suspicious: such a map is noise.

    Args:
        by_seed: Effects `[J, K]`; of an odd number of seeds a half has one more.

    Returns:
        NaN where no two halves have maps that vary.
    """
    found = (
        _correlation(
            by_seed[list(half)].mean(axis=0), np.delete(by_seed, half, axis=0).mean(axis=0)
        )
        for half in _halves(len(by_seed))
    )
    known = [each for each in found if math.isfinite(each)]
    if not known:
        return math.nan
    r = float(np.mean(known))
    return 2 * r / (1 + r) if r > 0 else r


def _halves(n: int) -> Iterator[tuple[int, ...]]:
    """Ways to choose half of n seeds: all where they are few, else some drawn from seed 0."""
    if math.comb(n, n // 2) <= 2 * _SPLITS:
        yield from combinations(range(n), n // 2)
        return
    generator = np.random.default_rng(0)
    for _ in range(_SPLITS):
        yield tuple(generator.permutation(n)[: n // 2].tolist())


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    x, y = first - first.mean(), second - second.mean()
    sizes = math.sqrt(float((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / sizes if sizes > 0 else math.nan
