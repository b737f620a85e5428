from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.measure.inference import (
    benjamini_hochberg,
    corrected_resampled_ttest,
    correlated_bayesian_ttest,
    crossed_ttest,
    effect_size,
    holm,
    interquartile_mean,
    naive_ttest,
    pairing_test,
    stimulus_test,
    two_way_bootstrap,
    variance_of_stimuli,
    wilcoxon_signed_rank,
    win_share,
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


@pytest.mark.parametrize("value", [0.5, -0.1, 0.1, 0.0, -1 / 59])
@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("n_test", [0, 292])
def test_equal_differences_are_not_testable(value, n, n_test):
    test = corrected_resampled_ttest([value] * n, 872, n_test)
    assert not test.testable
    assert (test.pvalue, test.df, test.mean) == (1.0, n - 1, value)
    assert (test.low, test.high) == (-math.inf, math.inf)
    assert math.isnan(test.statistic)


def test_a_known_smallest_variance_makes_equal_differences_testable():
    test = corrected_resampled_ttest([3, 3, 3], n_train=12, n_test=5, smallest_variance=1)
    spread = corrected_resampled_ttest([2, 3, 4], n_train=12, n_test=5)  # its variance is 1
    assert test == spread
    assert test.error == pytest.approx(math.sqrt(3 / 4))
    # Where seeds vary more than that, it changes nothing.
    assert corrected_resampled_ttest([2, 3, 4], 12, 5, 0.9) == spread


def test_the_variance_of_stimuli_is_mcnemar_s_for_hits():
    # 100 stimuli: 12 hits of the first alone, 7 of the second alone.
    d = np.repeat([1.0, -1.0, 0.0], [12, 7, 81])
    mcnemar = (12 + 7 - (12 - 7) ** 2 / 100) / 100**2
    assert variance_of_stimuli([d, d], n_train=1, n_test=0) == pytest.approx(mcnemar)
    # Between seeds that share part of their stimuli it is a share of it.
    assert variance_of_stimuli([d], n_train=300, n_test=100) == pytest.approx(0.75 * mcnemar)


def test_seeds_that_draw_from_few_stimuli_vary_as_much_as_said():
    # Test splits of 100 from 400 stimuli, nothing trained: only sampling varies the mean.
    generator = np.random.default_rng(0)
    d = generator.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2])
    drawn = [generator.permutation(d)[:100] for _ in range(4000)]
    between = np.var([row.mean() for row in drawn], ddof=1)
    assert variance_of_stimuli(drawn, n_train=300, n_test=100) == pytest.approx(between, rel=0.06)


def reports_with_a_claim(n_seeds: int, n_subjects: int, generator: np.random.Generator) -> float:
    """Share of reports on nothing that show a difference: four families, 59 sentences."""
    found = 0
    for _ in range(400):
        hits = generator.binomial(59, 10 / 59, size=(n_subjects, 4, n_seeds)) / 59
        scores = hits[0] if n_subjects == 1 else hits.mean(axis=2).T
        sizes = (176, 59) if n_subjects == 1 else (1, 0)
        pairs = [
            corrected_resampled_ttest(a - b, *sizes).pvalue
            for a, b in itertools.combinations(scores, 2)
        ]
        chance = [corrected_resampled_ttest(a - 10 / 59, *sizes).pvalue for a in scores]
        found += bool((holm(pairs) < 0.05).any() or (holm(chance) < 0.05).any())
    return found / 400


@pytest.mark.parametrize(("n_seeds", "n_subjects"), [(2, 1), (3, 1), (5, 1), (10, 1), (10, 2)])
def test_reports_on_nothing_claim_nothing_though_scores_are_coarse(n_seeds, n_subjects):
    generator = np.random.default_rng(n_seeds)
    assert reports_with_a_claim(n_seeds, n_subjects, generator) <= 0.05


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


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # 4 x .005; 2 x .01; 4/3 x .03; 1 x .04, and none above a larger one
        ([0.01, 0.04, 0.03, 0.005], [0.02, 0.04, 0.04, 0.02]),
        ([0.5, 0.6, 0.01], [0.6, 0.6, 0.03]),  # 3/2 x .5 = .75, lowered to .6
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.02, 0.02], [0.02, 0.02]),
    ],
)
def test_benjamini_hochberg_by_hand(p, adjusted):
    assert benjamini_hochberg(p).tolist() == pytest.approx(adjusted)


@given(pvalues)
def test_benjamini_hochberg_selects_as_the_step_up_procedure(p):
    found, ranked = benjamini_hochberg(p), sorted(p)
    for level in (0.01, 0.05, 0.2):
        steps = [i for i, value in enumerate(ranked, 1) if value * len(p) / i <= level]
        selected = [value <= ranked[steps[-1] - 1] if steps else False for value in p]
        assert (found <= level).tolist() == selected
    assert (found <= holm(p) + 1e-12).all()


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
    assert math.isnan(effect_size([0.0, 0.0]))
    assert math.isnan(effect_size([-0.1, -0.1, -0.1]))


def test_wins_are_counted_by_seed_and_a_tie_is_half():
    assert win_share([1, 2, 3, 4], [0, 2, 4, 3]) == (1 + 0.5 + 0 + 1) / 4
    assert win_share([1, 1], [0, 0]) == 1


@pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0])])
def test_scores_that_are_not_paired_are_refused(pair):
    with pytest.raises(ValueError, match=r"same seeds|finite"):
        win_share(*pair)


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
    test = corrected_resampled_ttest(d, 872, n_test)
    posterior = correlated_bayesian_ttest(test, equivalence)
    n, deviations = len(d), np.asarray(d) - np.mean(d)
    scale = math.sqrt((1 / n + n_test / 872) * (deviations**2).sum() / (n - 1))
    expected = stats.t.cdf((np.array([-equivalence, equivalence]) - np.mean(d)) / scale, n - 1)
    assert posterior.below == pytest.approx(expected[0], abs=1e-6)
    assert posterior.above == pytest.approx(1 - expected[1], abs=1e-6)
    assert sum(posterior) == pytest.approx(1)


def test_without_a_region_the_posterior_agrees_with_the_test():
    test = corrected_resampled_ttest([0.02, 0.05, -0.01, 0.03, 0.04], 872, 292)
    posterior = correlated_bayesian_ttest(test, 0)
    assert posterior.equivalent == pytest.approx(0, abs=1e-12)
    assert 2 * min(posterior.below, posterior.above) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("value", [0.0, 0.02, -0.02])
def test_differences_without_spread_have_no_posterior(value):
    test = corrected_resampled_ttest([value] * 4, 872, 292)
    assert all(map(math.isnan, correlated_bayesian_ttest(test, 0.005)))


def test_a_negative_region_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1"):
        correlated_bayesian_ttest(corrected_resampled_ttest([0.1, 0.2], 10, 5), -0.1)


# ---------------------------------------------------------------- one test split for all seeds


def test_the_sign_changes_of_few_blocks_are_all_of_them():
    d = np.array([0.3, -0.1, 0.4, 0.2, 0.5, 0.1, -0.2, 0.6, 0.3, 0.2, 0.1])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    exact = np.mean(signs @ d >= d.sum() - 1e-12)
    test = stimulus_test(d, n_blocks=len(d))
    assert test.pvalue == pytest.approx(2 * exact, abs=0.006)
    assert test.mean == pytest.approx(d.mean())


def test_the_interval_holds_what_sign_changes_do_not_refuse():
    d = np.random.default_rng(1).normal(0.2, 0.5, 60)
    test = stimulus_test(d, 12)
    for end, inside in ((test.low, 1e-3), (test.high, -1e-3)):
        # Subtracting an end of the interval makes p about 5 %.
        assert stimulus_test(d - end, 12).pvalue == pytest.approx(0.05, abs=0.005)
        assert stimulus_test(d - end - inside, 12).pvalue > 0.05 - 0.005


def test_with_many_independent_stimuli_it_is_student_s_test():
    d = np.random.default_rng(2).normal(0.1, 1, 400)
    test, student = stimulus_test(d, 400), stats.ttest_1samp(d, 0)
    assert test.statistic == pytest.approx(student.statistic)
    assert test.pvalue == pytest.approx(student.pvalue, abs=0.01)
    low, high = student.confidence_interval()
    assert (test.low, test.high) == pytest.approx((low, high), abs=0.01)


def test_five_blocks_can_not_show_anything_at_5_percent():
    test = stimulus_test([1, 2, 3, 1.5, 2], 5)
    assert test.pvalue == pytest.approx(2 / 2**5, abs=0.006)
    assert (test.low, test.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("d", [[0.0] * 30, [0.25] * 30, [0.1, 0.0] * 15])
def test_blocks_that_are_all_alike_are_not_testable(d):
    assert not stimulus_test(d, 15).testable


ROUNDED = [0.1, 0.2, -0.3]
"""Differences whose mean is 0, and 1e-17 as computers add them up."""


@pytest.mark.parametrize("repeats", [1, 7])
def test_a_mean_of_0_is_0_whatever_rounding_makes_of_it(repeats):
    d = np.array(ROUNDED * repeats)
    assert d.mean() != 0
    tests = [
        corrected_resampled_ttest(d, 872, 292),
        corrected_resampled_ttest(-1e-9 * d, 872, 292),
        stimulus_test(d, len(d)),
        crossed_ttest(np.stack([d, d[::-1]])),
    ]
    for test in tests:
        assert (test.mean, test.statistic, test.pvalue) == (0, 0, 1)
        assert math.copysign(1, test.mean) == 1
        assert test.low == pytest.approx(-test.high)
        assert test.high > 0
    assert effect_size(d) == 0


def test_blocks_whose_sums_are_0_but_for_rounding_are_alike():
    d = np.array([*ROUNDED, *ROUNDED[::-1], 0.3, -0.1, -0.2])
    assert {d[i : i + 3].sum() for i in (0, 3, 6)} != {0.0}
    assert not stimulus_test(d, 3).testable


def test_a_small_mean_of_small_differences_is_none_of_rounding():
    d = 1e-9 * np.array([1.0, 2.0, 4.0])
    assert corrected_resampled_ttest(d, 12, 5).statistic == pytest.approx(
        corrected_resampled_ttest(1e9 * d, 12, 5).statistic
    )


@pytest.mark.parametrize("d", [[], [0.5], [0.5, math.nan]])
def test_what_is_no_test_over_stimuli_is_refused(d):
    with pytest.raises(ValueError, match=r"at least 2|finite"):
        stimulus_test(d, 10)


def test_neighbours_that_are_alike_count_once():
    # 20 runs of 15 equal values: as if there were 20 values.
    generator = np.random.default_rng(3)
    runs = generator.standard_normal((200, 20))
    alike = np.repeat(runs, 15, axis=1)
    assert np.mean([stimulus_test(d, 20).pvalue < 0.05 for d in alike]) <= 0.08
    assert np.mean([stimulus_test(d, 300).pvalue < 0.05 for d in alike[:30]]) > 0.4


def test_the_pairing_test_of_single_candidates_is_the_permutation_test():
    generator = np.random.default_rng(4)
    values = generator.random((7, 7)) + 0.3 * np.eye(7)
    means = [values[np.arange(7), list(p)].mean() for p in itertools.permutations(range(7))]
    exact = np.mean(np.array(means) >= values.diagonal().mean() - 1e-12)
    assert pairing_test(values, n_blocks=7) == pytest.approx(2 * exact, abs=0.02)


def test_the_pairing_test_knows_that_some_candidates_come_first_for_all():
    # Every query ranks the candidates alike: exactly k of n are hits, whatever the pairing.
    values = np.zeros((40, 40))
    values[:, :8] = 1
    assert pairing_test(values, 20) == 1


def test_permuted_blocks_keep_neighbours_together():
    # Queries and candidates of a stretch of ten answer each other: that is no evidence of pairs
    # for blocks of ten, and much for single ones.
    stretch = np.arange(60) // 10
    by_chance = np.random.default_rng(5).permutation(6)
    values = (stretch[:, None] == by_chance[stretch]).astype(float)
    found = pairing_test(values, 6), pairing_test(values, 60)
    assert found[0] > found[1]


def test_a_world_without_signal_is_not_above_chance():
    generator = np.random.default_rng(6)
    p = [pairing_test(generator.random((30, 30)) < 0.2, 10) for _ in range(300)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.04)


# ---------------------------------------------------------------- subjects who met the same stimuli


def test_the_crossed_test_is_clark_s_min_f_with_the_fewer_degrees_of_freedom():
    d = np.random.default_rng(7).normal(0.3, 1, (8, 30))
    by_subject, by_stimulus = d.mean(axis=1), d.mean(axis=0)
    f1, f2 = (stats.ttest_1samp(margin, 0).statistic ** 2 for margin in (by_subject, by_stimulus))
    test = crossed_ttest(d)
    assert test.statistic**2 == pytest.approx(f1 * f2 / (f1 + f2))
    assert test.df == 7
    assert test.pvalue == pytest.approx(stats.f.sf(f1 * f2 / (f1 + f2), 1, 7))


@pytest.mark.parametrize("n_subjects", [2, 3])
def test_a_few_subjects_who_happen_to_agree_are_no_evidence(n_subjects):
    generator, found = np.random.default_rng(n_subjects), []
    for _ in range(1000):
        of_subjects = generator.normal(0, 0.1, (n_subjects, 1))
        d = of_subjects + generator.normal(0, 0.57, (n_subjects, 200))
        found.append(crossed_ttest(d).pvalue < 0.05)
    assert np.mean(found) <= 0.06


def test_methods_that_differ_stimulus_by_stimulus_are_not_told_apart():
    # Ten subjects, 200 images; either method is better at some images, equally good at all.
    generator, found = np.random.default_rng(8), {"crossed": 0, "subjects alone": 0}
    for _ in range(300):
        able = generator.normal(0.3, 0.35, (10, 1)) + generator.normal(0, 1, 200)
        hits = [
            generator.random((10, 200)) < 1 / (1 + np.exp(-able - generator.normal(0, 1, 200)))
            for _ in range(2)
        ]
        d = hits[0].astype(float) - hits[1]
        found["crossed"] += crossed_ttest(d).pvalue < 0.05
        found["subjects alone"] += naive_ttest(d.mean(axis=1)).pvalue < 0.05
    assert found["crossed"] / 300 <= 0.06
    assert found["subjects alone"] / 300 >= 0.12


def test_the_two_way_bootstrap_has_the_variance_that_owen_gives_it():
    """The mean of drawn means varies by a / R + b / C + c / RC, with the parts of these data."""
    v = np.random.default_rng(9).normal(0, 1, (400, 300)) + np.arange(400)[:, None] / 100
    found = two_way_bootstrap(v)
    assert found.value == v.mean()
    n, m = v.shape
    rows, columns = v.mean(axis=1).var() / n, v.mean(axis=0).var() / m
    rest = v - v.mean(axis=1, keepdims=True) - v.mean(axis=0) + v.mean()
    sd = np.sqrt(rows + columns + rest.var() / (n * m))
    assert (found.high - found.low) / (2 * 1.97) == pytest.approx(sd, rel=0.04)


@pytest.mark.parametrize(("n_subjects", "sd"), [(10, 1.0), (6, 0.35)])
def test_the_two_way_bootstrap_covers_the_mean_of_other_subjects_and_images(n_subjects, sd):
    generator, covered = np.random.default_rng(3), []
    able = generator.normal(0.3, np.hypot(sd, 1), 10**6)
    truth = np.mean(1 / (1 + np.exp(-able)))
    for _ in range(80):
        easy = generator.normal(0.3, sd, (n_subjects, 1)) + generator.normal(0, 1, 200)
        hits = (generator.random((n_subjects, 200)) < 1 / (1 + np.exp(-easy))).astype(float)
        _, low, high = two_way_bootstrap(hits)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.91


def test_a_few_subjects_are_not_drawn_again():
    with pytest.raises(ValueError, match=r"expected 5 of both at least, got \(4, 200\)"):
        two_way_bootstrap(np.zeros((4, 200)))


def test_a_crossed_test_without_any_spread_is_none():
    assert not crossed_ttest(np.full((3, 4), 0.1)).testable
    with pytest.raises(ValueError, match=r"at least, got \(1, 4\)"):
        crossed_ttest(np.zeros((1, 4)))
