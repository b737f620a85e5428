from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import (
    TTest,
    corrected_resampled_ttest,
    correlated_bayesian_ttest,
    effect_size,
    holm,
    interquartile_mean,
    naive_ttest,
    wilcoxon_signed_rank,
    win_probability,
)

SSENSE_SEEDS, SSENSE_TRAIN, SSENSE_TEST = 10, 872, 292

# Differences of scores, to the precision that scores are told apart by.
differences = st.lists(st.integers(-10_000, 10_000).map(lambda k: k / 10_000), min_size=2)
varied = differences.filter(lambda d: len(set(d)) > 1)
pvalues = st.lists(st.floats(0, 1), max_size=12)


def with_statistic(t: float, n: int) -> np.ndarray:
    """Differences of n seeds whose ordinary t statistic is t."""
    d = np.arange(n, dtype=float)
    return d - d.mean() + t * d.std(ddof=1) / math.sqrt(n)


# ---------------------------------------------------------------- the corrected t-test


def test_a_case_by_hand():
    # mean 3, variance 1; 1/J + n_test/n_train = 1/3 + 5/12 = 3/4
    test = corrected_resampled_ttest([2, 3, 4], n_train=12, n_test=5)
    assert test.mean == 3
    assert test.df == 2
    assert test.statistic == pytest.approx(3 / math.sqrt(3 / 4))  # 2 sqrt(3) = 3.464
    # Student's t with 2 degrees of freedom has the tail 1 - t / sqrt(2 + t²), two-sided.
    assert test.pvalue == pytest.approx(1 - math.sqrt(12 / 14))
    margin = 4.302653 * math.sqrt(3 / 4)
    assert (test.low, test.high) == pytest.approx((3 - margin, 3 + margin), rel=1e-6)


@given(d=varied, n_train=st.integers(1, 1000), n_test=st.integers(0, 1000))
def test_it_is_nadeau_and_bengio_s_formula(d, n_train, n_test):
    n = len(d)
    mean = math.fsum(d) / n
    variance = math.fsum((x - mean) ** 2 for x in d) / (n - 1)
    student = stats.t(n - 1, loc=mean, scale=math.sqrt((1 / n + n_test / n_train) * variance))
    test = corrected_resampled_ttest(d, n_train, n_test)
    assert test.pvalue == pytest.approx(2 * min(student.cdf(0), student.sf(0)), rel=1e-6, abs=1e-9)
    assert (test.low, test.high) == pytest.approx(student.interval(0.95), rel=1e-6, abs=1e-9)


@given(varied)
def test_without_overlap_it_is_scipy_s_one_sample_test(d):
    ours, scipy_s = corrected_resampled_ttest(d, n_train=7, n_test=0), stats.ttest_1samp(d, 0)
    assert ours.statistic == pytest.approx(scipy_s.statistic, rel=1e-6, abs=1e-9)
    assert ours.pvalue == pytest.approx(scipy_s.pvalue, rel=1e-6, abs=1e-9)
    assert ours.df == scipy_s.df
    assert (ours.low, ours.high) == pytest.approx(scipy_s.confidence_interval(), abs=1e-9)
    assert naive_ttest(d) == ours


def test_ssense_s_ten_seeds_shrink_t_by_2_09():
    d = with_statistic(3, SSENSE_SEEDS)
    naive = naive_ttest(d)
    corrected = corrected_resampled_ttest(d, SSENSE_TRAIN, SSENSE_TEST)
    factor = math.sqrt((1 / 10 + 292 / 872) / (1 / 10))
    assert factor == pytest.approx(2.09, abs=0.005)
    assert naive.statistic == pytest.approx(3)
    assert naive.statistic / corrected.statistic == pytest.approx(factor)
    assert (corrected.high - corrected.low) / (naive.high - naive.low) == pytest.approx(factor)


@pytest.mark.parametrize(("reported", "corrected"), [(0.011, 0.16), (0.028, 0.24), (0.045, 0.29)])
def test_ssense_s_p_values_corrected(reported, corrected):
    d = with_statistic(stats.t.isf(reported / 2, SSENSE_SEEDS - 1), SSENSE_SEEDS)
    assert naive_ttest(d).pvalue == pytest.approx(reported)
    test = corrected_resampled_ttest(d, SSENSE_TRAIN, SSENSE_TEST)
    assert test.pvalue == pytest.approx(corrected, abs=0.005)


@given(d=varied, n_test=st.integers(0, 500))
def test_the_interval_leaves_out_0_where_p_is_below_5_percent(d, n_test):
    test = corrected_resampled_ttest(d, 100, n_test)
    assert test.low < test.mean < test.high
    if not math.isclose(test.pvalue, 0.05, rel_tol=1e-6):
        assert (test.low <= 0 <= test.high) == (test.pvalue > 0.05)


@given(d=varied, shift=st.floats(-1, 1), n_test=st.integers(0, 500))
def test_the_interval_moves_with_the_differences(d, shift, n_test):
    here = corrected_resampled_ttest(d, 100, n_test)
    there = corrected_resampled_ttest(np.add(d, shift), 100, n_test)
    assert (there.low - here.low, there.high - here.high) == pytest.approx((shift, shift))


@given(varied)
def test_more_overlap_never_makes_it_surer(d):
    tests = [corrected_resampled_ttest(d, 100, n_test) for n_test in (0, 10, 100)]
    assert tests[0].pvalue <= tests[1].pvalue <= tests[2].pvalue
    assert tests[0].low >= tests[1].low >= tests[2].low


@given(varied)
def test_swapping_the_two_sides_changes_the_sign_alone(d):
    one, other = (corrected_resampled_ttest(s * np.array(d), 872, 292) for s in (1, -1))
    assert other.statistic == -one.statistic
    assert other.pvalue == one.pvalue
    assert (other.low, other.high) == (-one.high, -one.low)


@pytest.mark.parametrize(("value", "t"), [(0.5, math.inf), (-0.1, -math.inf), (0.1, math.inf)])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_equal_differences_leave_no_doubt(value, t, n):
    test = corrected_resampled_ttest([value] * n, 872, 292)
    assert test == TTest(t, 0.0, n - 1, value, value, value)


def test_no_difference_at_all_is_no_evidence():
    assert corrected_resampled_ttest(np.zeros(4), 872, 292) == TTest(0.0, 1.0, 3, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("d", "sizes", "message"),
    [
        ([], (872, 292), "a t-test needs at least 2 seeds, got 0"),
        ([0.1], (872, 292), "a t-test needs at least 2 seeds, got 1"),
        ([0.1, math.nan], (872, 292), "values must be finite, got nan"),
        ([0.1, -math.inf], (872, 292), "values must be finite, got -inf"),
        ([[0.1, 0.2]], (872, 292), r"one value per seed, got an array of shape \(1, 2\)"),
        ([0.1, 0.2], (0, 292), "n_train must be at least 1 and n_test at least 0: 0, 292"),
        ([0.1, 0.2], (872, -1), "n_train must be at least 1 and n_test at least 0: 872, -1"),
    ],
)
def test_what_can_t_be_tested_is_refused(d, sizes, message):
    with pytest.raises(ValueError, match=message):
        corrected_resampled_ttest(d, *sizes)


# ---------------------------------------------------------------- false positives


def resampled_differences(generator: np.random.Generator, n_seeds: int) -> np.ndarray:
    """Differences in accuracy of two equally good classifiers over seeded 60/20/20 splits.

    Both are nearest-mean classifiers of the same 250 items, each by 5 features of its own.
    """
    n = 250
    label = generator.choice([-1, 1], n)
    features = generator.standard_normal((2, n, 5)) + 0.3 * label[:, None]
    order = generator.permuted(np.tile(np.arange(n), (n_seeds, 1)), axis=1)
    train, test = order[:, :150], order[:, 200:]
    direction = np.einsum("st,cstf->csf", label[train], features[:, train])
    side = np.einsum("cstf,csf->cst", features[:, test], direction)
    accuracy = (side * label[test] > 0).mean(axis=2)
    return accuracy[0] - accuracy[1]


@pytest.mark.parametrize("n_seeds", [5, 10, 20])
def test_false_positives_over_resampled_splits(n_seeds):
    generator = np.random.default_rng(n_seeds)
    worlds = [resampled_differences(generator, n_seeds) for _ in range(1000)]
    corrected = np.mean([corrected_resampled_ttest(d, 150, 50).pvalue < 0.05 for d in worlds])
    naive = np.mean([naive_ttest(d).pvalue < 0.05 for d in worlds])
    print(f"{n_seeds} seeds, no true difference: corrected {corrected:.1%}, naive {naive:.1%}")
    assert corrected <= 0.08
    if n_seeds == 20:
        assert naive >= 0.25


# ---------------------------------------------------------------- Holm


def stepped_down(pvalues: list[float]) -> list[float]:
    """Smallest level at which Holm's procedure, told step by step, rejects each hypothesis."""
    adjusted, level, left = {}, 0.0, dict(enumerate(pvalues))
    while left:
        smallest = min(left, key=left.__getitem__)
        level = max(level, min(1.0, left[smallest] * len(left)))
        adjusted[smallest] = level
        del left[smallest]
    return [adjusted[i] for i in range(len(pvalues))]


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x .01; 2 x .03; 1 x .04, lifted to .06
        ([0.5, 0.6, 0.01], [1.0, 1.0, 0.03]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p, adjusted):
    assert holm(p).tolist() == pytest.approx(adjusted)


@given(pvalues)
def test_holm_is_the_step_down_procedure(p):
    assert holm(p).tolist() == stepped_down(p)


@given(pvalues)
def test_holm_keeps_the_order_and_stays_between_p_and_bonferroni(p):
    adjusted, p = holm(p), np.array(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@given(st.data())
def test_holm_does_not_depend_on_the_order_of_the_family(data):
    p = data.draw(pvalues)
    order = np.array(data.draw(st.permutations(range(len(p)))), dtype=int)
    assert holm(np.array(p)[order]).tolist() == holm(p)[order].tolist()


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([0.1, 1.2], r"p-values must be in \[0, 1\], got 0.1 to 1.2"),
        ([-0.1, 0.2], r"p-values must be in \[0, 1\], got -0.1 to 0.2"),
        ([0.1, math.nan], "values must be finite, got nan"),
    ],
)
def test_what_is_no_p_value_is_refused(p, message):
    with pytest.raises(ValueError, match=message):
        holm(p)


# ---------------------------------------------------------------- effect, wins, ranks, posterior


@given(varied)
def test_the_effect_size_is_the_mean_in_standard_deviations(d):
    expected = np.mean(d) / np.std(d, ddof=1)
    assert effect_size(d) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_effects_without_spread():
    assert effect_size([0.0, 0.0]) == 0
    assert effect_size([-0.1, -0.1, -0.1]) == -math.inf


def test_wins_are_counted_by_seed_and_a_tie_is_half():
    assert win_probability([1, 2, 3, 4], [0, 2, 4, 3]).value == (1 + 0.5 + 0 + 1) / 4
    assert win_probability([1, 1], [0, 0]) == (1.0, 1.0, 1.0)


def test_the_interval_of_wins_is_the_binomial_s():
    # Resampling 0s and 1s draws from a binomial distribution: its quantiles are known.
    first = np.r_[np.ones(14), np.zeros(6)]
    estimate = win_probability(first, 0.5 * np.ones(20))
    low, high = stats.binom(20, 0.7).interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((low / 20, high / 20), abs=0.05)


@pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0])])
def test_scores_that_are_not_paired_are_refused(pair):
    with pytest.raises(ValueError, match=r"same seeds|finite"):
        win_probability(*pair)


def test_the_interquartile_mean_is_that_of_the_middle_half():
    table = np.arange(16.0).reshape(2, 8)  # the middle half: 4 to 11
    table[0, 0], table[1, 7] = -1e6, 1e6
    estimate = interquartile_mean(table)
    assert estimate.value == 7.5
    assert estimate.low < 7.5 < estimate.high


def test_the_bootstrap_of_the_interquartile_mean_stays_within_recordings():
    # Each recording has one score: drawing its seeds anew changes nothing.
    table = np.repeat([[0.1], [0.5], [0.6], [0.9]], 5, axis=1)
    assert interquartile_mean(table) == pytest.approx((0.55, 0.55, 0.55))


@given(st.lists(st.integers(-50, 50).filter(bool), min_size=1, max_size=8))
def test_the_signed_rank_test_is_the_one_of_all_signs(d):
    ranks = stats.rankdata(np.abs(d))
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    sums = np.abs(signs @ ranks)
    exact = np.mean(sums >= abs(np.sign(d) @ ranks) - 1e-9)
    test = wilcoxon_signed_rank(d)
    if len(set(np.abs(d).tolist())) == len(d):  # with ties SciPy approximates
        assert test.pvalue == pytest.approx(exact)
    assert test.smallest == pytest.approx(np.mean(sums >= ranks.sum()))


def test_without_a_difference_the_signed_rank_test_shows_nothing():
    assert wilcoxon_signed_rank([0.0, 0.0]) == (1.0, 1.0)
    assert wilcoxon_signed_rank([1, 2, 3, 4, 5]).pvalue == 0.0625  # the smallest of five seeds


@given(d=varied, equivalence=st.floats(0, 0.1), n_test=st.integers(0, 500))
def test_the_posterior_is_student_s_distribution(d, equivalence, n_test):
    posterior = correlated_bayesian_ttest(d, 872, n_test, equivalence)
    n, deviations = len(d), np.asarray(d) - np.mean(d)
    scale = math.sqrt((1 / n + n_test / 872) * (deviations**2).sum() / (n - 1))
    expected = stats.t.cdf((np.array([-equivalence, equivalence]) - np.mean(d)) / scale, n - 1)
    assert posterior.below == pytest.approx(expected[0], abs=1e-6)
    assert posterior.above == pytest.approx(1 - expected[1], abs=1e-6)
    assert sum(posterior) == pytest.approx(1)


def test_without_a_region_the_posterior_agrees_with_the_test():
    d = [0.02, 0.05, -0.01, 0.03, 0.04]
    posterior = correlated_bayesian_ttest(d, 872, 292, 0)
    assert posterior.equivalent == pytest.approx(0, abs=1e-12)
    p = corrected_resampled_ttest(d, 872, 292).pvalue
    assert 2 * min(posterior.below, posterior.above) == pytest.approx(p)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, (0, 1, 0)), (0.02, (0, 0, 1)), (-0.02, (1, 0, 0))]
)
def test_differences_without_spread_are_certain(value, expected):
    assert correlated_bayesian_ttest([value] * 4, 872, 292, 0.005) == expected


def test_a_negative_region_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1"):
        correlated_bayesian_ttest([0.1, 0.2], 10, 5, -0.1)
