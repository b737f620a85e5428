from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.mapping.effects import (
    Resampling,
    effect_maps,
    maximum_statistic,
    rank_stability,
    split_half_reliability,
)
from analysis.mapping.parts import Part
from analysis.mapping.seed_map import SeedMap, pairings_of
from analysis.measure.inference import corrected_resampled_ttest, holm

N, J, K = 60, 4, 6
SIZES = Resampling(n_train=180, n_test=N)
PARTS = [Part(what="electrode left out", name=f"A{k + 1}", kept=()) for k in range(K)]


def seed_map(seed: int, lost: int, parts=PARTS, permutations: int = 0) -> SeedMap:
    """Queries find their sentence; without the first part some no longer do, without others all."""
    rng = np.random.default_rng(seed)
    intact, occluded = np.ones((len(parts), N)), np.ones((len(parts), N))
    occluded[0, rng.choice(N, lost, replace=False)] = 50
    permuted = rng.normal(0, 0.02, (permutations, len(parts)))
    return SeedMap(seed=seed, parts=parts, intact=intact, occluded=occluded, permuted=permuted)


def test_effects_are_tested_by_the_corrected_test_and_adjusted_over_the_map():
    lost = (30, 33, 36, 29)
    (found,) = effect_maps([seed_map(j, n) for j, n in enumerate(lost)], "recall@10", SIZES)
    np.testing.assert_allclose(found.by_seed[:, 0], np.array(lost) / N)
    np.testing.assert_allclose(found.scores[:, 0], 1 - np.array(lost) / N)
    assert (found.by_seed[:, 1:] == 0).all()
    # At least the variance of sentences: that of hits, in the share of it that seeds do not share.
    least = np.mean([n / N * (1 - n / N) / N for n in lost]) * 180 / 240
    by_hand = corrected_resampled_ttest(np.array(lost) / N, 180, N, least)
    assert found.tests[0].pvalue == pytest.approx(by_hand.pvalue)
    assert found.tests[0].low == pytest.approx(by_hand.low)
    assert [test.pvalue for test in found.tests[1:]] == [1.0] * (K - 1)
    assert found.p_holm[0] == pytest.approx(K * by_hand.pvalue)
    assert found.p_fdr[0] == pytest.approx(K * by_hand.pvalue)
    assert found.found.tolist() == [True] + [False] * (K - 1)
    assert math.isnan(found.threshold)


def test_holm_is_over_the_parts_of_one_map():
    other = [Part(what="time window", name=str(k), rows=(0, 1), frames=(k, k)) for k in range(3)]
    maps = [seed_map(j, n, [*PARTS, *other]) for j, n in enumerate((30, 33, 36, 29))]
    electrodes, windows = effect_maps(maps, "mrr", SIZES)
    assert (len(electrodes.tests), len(windows.tests)) == (K, 3)
    pvalues = [test.pvalue for test in electrodes.tests]
    assert electrodes.p_holm.tolist() == holm(pvalues).tolist()
    assert not windows.found.any()


def test_a_part_below_the_threshold_of_permuted_pairings_is_not_found():
    maps = [seed_map(j, n, permutations=200) for j, n in enumerate((30, 33, 36, 29))]
    (found,) = effect_maps(maps, "recall@10", SIZES)
    widened = np.sqrt((1 / J + N / 180) / (1 / J))  # as the corrected test
    largest = widened * np.mean([each.permuted for each in maps], axis=0).max(axis=1)
    assert found.threshold == pytest.approx(np.sort(largest)[190])
    assert found.p_max[0] == pytest.approx(1 / 201)
    assert found.found[0]
    high = [SeedMap(**{**vars(each), "permuted": each.permuted + 0.6}) for each in maps]
    (found,) = effect_maps(high, "recall@10", SIZES)
    assert found.p_max[0] == 1
    assert not found.found.any()


def test_sentences_that_all_seeds_share_are_the_units():
    maps = [seed_map(0, 30), seed_map(0, 30)]
    (over_seeds,) = effect_maps(maps, "recall@10", SIZES)
    shared = Resampling(n_train=180, n_test=N, blocks=20)
    (over_blocks,) = effect_maps(maps, "recall@10", shared)
    assert over_blocks.tests[0].df != over_seeds.tests[0].df
    assert over_blocks.tests[0].mean == over_seeds.tests[0].mean == pytest.approx(0.5)
    # Another seed of the same sentences adds nothing.
    (more,) = effect_maps([*maps, *maps], "recall@10", shared)
    assert more.tests[0] == over_blocks.tests[0]


def test_the_maximum_statistic_by_hand():
    permuted = np.array([[0.0, 0.3], [0.1, -0.2], [0.05, 0.0], [-0.1, -0.3]])
    threshold, p = maximum_statistic(np.array([0.1, 0.4]), permuted)
    assert threshold == 0.3  # of so few permutations the largest
    assert p.tolist() == [3 / 5, 1 / 5]


def test_the_maximum_statistic_keeps_its_level_over_a_null_map():
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(400):
        draws = rng.standard_normal((100, 10))
        threshold, p = maximum_statistic(draws[0], draws[1:])
        reached += (draws[0] > threshold).any()
        assert (draws[0] > threshold).any() <= (p.min() <= 0.05)
    assert stats.binomtest(reached, 400, 0.05).pvalue > 0.01


def test_rank_stability_is_the_mean_spearman_of_pairs_of_seeds():
    by_seed = np.random.default_rng(1).standard_normal((3, 9))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([stats.spearmanr(by_seed[a], by_seed[b]).statistic for a, b in pairs])
    assert rank_stability(by_seed) == pytest.approx(expected)
    assert rank_stability(np.tile(by_seed[0], (3, 1))) == pytest.approx(1)
    assert math.isnan(rank_stability(np.zeros((3, 9))))


def test_split_half_reliability_is_spearman_and_brown_s():
    a, b = np.random.default_rng(2).standard_normal((2, 9)) + np.arange(9)
    r = np.corrcoef(a, b)[0, 1]
    assert split_half_reliability(np.stack([a, b])) == pytest.approx(2 * r / (1 + r))
    assert split_half_reliability(np.stack([a, -a])) == pytest.approx(-1)
    assert math.isnan(split_half_reliability(np.zeros((4, 9))))


def test_split_half_reliability_is_that_of_the_mean_map():
    # Of J seeds with signal variance s and noise variance e, the reliability is s / (s + e / J).
    rng, s, e, j = np.random.default_rng(3), 1.0, 4.0, 20
    truth = rng.normal(0, math.sqrt(s), 2000)
    by_seed = truth + rng.normal(0, math.sqrt(e), (j, 2000))
    assert split_half_reliability(by_seed) == pytest.approx(s / (s + e / j), abs=0.02)


def test_a_null_map_is_found_in_at_most_one_of_twenty_reports():
    rng, found = np.random.default_rng(4), 0
    for _ in range(200):
        maps = [
            SeedMap(
                seed=j,
                parts=PARTS,
                intact=rng.integers(1, N, (K, N)).astype(float),
                occluded=rng.integers(1, N, (K, N)).astype(float),
                permuted=np.empty((0, K)),
            )
            for j in range(J)
        ]
        (each,) = effect_maps(maps, "recall@10", SIZES)
        found += each.found.any()
    assert found <= 16  # nominal: 10 and, by the binomial distribution, 16 at most


def test_pairings_without_any_make_no_threshold():
    assert pairings_of(N, 0, seed=0).shape == (0, N)
