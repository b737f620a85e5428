from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.measure.inference import (
    corrected_resampled_ttest,
    crossed_ttest,
    stimulus_test,
    wilcoxon_signed_rank,
)
from ssense.engine.core.power import (
    Power,
    detectable_errors,
    least_over_stimuli,
    least_over_subjects,
    rank_words,
    smallest_detectable_effect,
    smallest_rank_p,
    subject_words,
)


@pytest.mark.parametrize(
    ("n_train", "n_test", "effects"),
    [
        (1000, 0, (1.68, 1.00, 0.66, 0.40)),
        (800, 100, (2.14, 1.49, 1.24, 1.09)),
        (872, 292, (2.75, 2.08, 1.83, 1.70)),
    ],
)
def test_the_table_of_noncentral_t_is_met(n_train, n_test, effects):
    for n_seeds, effect in zip((5, 10, 20, 50), effects, strict=True):
        found = smallest_detectable_effect(n_seeds, n_train, n_test)
        assert found == pytest.approx(effect, abs=0.011)


def test_one_seed_detects_nothing():
    assert smallest_detectable_effect(1, 60, 20) == math.inf


@given(st.integers(2, 60), st.integers(10, 1000), st.integers(0, 400))
def test_more_seeds_detect_less_but_never_below_the_floor(n_seeds, n_train, n_test):
    effect = smallest_detectable_effect(n_seeds, n_train, n_test)
    assert effect > smallest_detectable_effect(n_seeds + 1, n_train, n_test)
    assert effect > math.sqrt(n_test / n_train)


@pytest.mark.parametrize("n_seeds", [3, 10])
def test_an_effect_of_that_size_is_found_four_times_in_five(n_seeds):
    n_train, n_test = 872, 292
    rho = n_test / n_train
    effect = smallest_detectable_effect(n_seeds, n_train, n_test)
    # Differences whose mean has the variance that the correction assumes, s² (1/J + rho).
    generator = np.random.default_rng(0)
    own = generator.standard_normal((4000, n_seeds))
    shared = math.sqrt(rho) * generator.standard_normal((4000, 1))
    found = [
        corrected_resampled_ttest(row, n_train, n_test).pvalue < 0.05
        for row in effect + own + shared
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("comparisons", [1, 6])
@pytest.mark.parametrize("df", [4, 9, 30])
def test_detectable_errors_are_those_of_the_noncentral_t(df, comparisons):
    noncentrality = detectable_errors(df, comparisons)
    critical = stats.t.isf(0.05 / (2 * comparisons), df)
    assert stats.nct.sf(critical, df, noncentrality) == pytest.approx(0.8, abs=1e-3)


def power(**changes) -> Power:
    values = {"seeds": 10, "sizes": (872, 292), "comparisons": 1, "noise": 0.0127}
    return Power(**{**values, "metric": "recall@10", **changes})


def test_the_plan_says_what_differences_the_seeds_can_show():
    # 2.08 standard deviations of a paired difference for 10 seeds at 872 and 292 sentences.
    assert power().lines() == [
        "  power: 10 seeds show differences from 2.6 points of Recall@10, 20 seeds from 2.3 "
        "(80 %, corrected test)",
        "  advice: enough seeds; splits overlap, so that no number shows less than 2.1",
    ]
    assert power(noise=None, seeds=5).lines() == [
        "  power: 5 seeds show differences from 2.8 sd of paired differences, 10 seeds from 2.1, "
        "20 seeds from 1.8 (80 %, corrected test)",
        "  advice: seeds 0-9; more than these would gain little",
    ]
    assert "a single seed can show no difference" in power(seeds=1).lines()[0]


def test_the_power_of_many_comparisons_is_that_after_holm():
    (line, _) = power(noise=None, comparisons=6).lines()
    assert line.startswith("  power: 10 seeds show differences from 2.9 sd")
    assert line.endswith("(80 %, corrected test, Holm over 6 pairs)")


@pytest.mark.parametrize("comparisons", [1, 6])
def test_two_seeds_are_said_to_show_next_to_nothing(comparisons):
    beware = power(seeds=2, comparisons=comparisons).lines()[1]
    share = int(re.search(r"to within (\d+) %", beware)[1]) / 100
    # Differences of 1 and 1 + x are shown where x is smaller, and not where it is larger.
    for apart, wanted in ((0.8 * share, True), (1.3 * share, False)):
        test = corrected_resampled_ttest([1 - apart / 2, 1 + apart / 2], 872, 292)
        assert (comparisons * test.pvalue < 0.05) == wanted


def test_a_shared_test_split_has_the_power_of_its_stimuli():
    lines = power(shared_test=(300, 20), sizes=(872, 0)).lines()
    assert "all seeds share 300 test stimuli, which show differences from about" in lines[0]
    assert lines == power(shared_test=(300, 20), sizes=(872, 0), seeds=50).lines()
    points = float(re.search(r"about ([\d.]+) points", lines[0])[1]) / 100
    # Two configurations whose hits are independent, one of them better by that much.
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        a, b = (generator.random(300) < p for p in (0.2 + points / 2, 0.2 - points / 2))
        found.append(stimulus_test(a.astype(float) - b, 20).pvalue < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_one_subject_s_images_have_the_power_of_the_test_over_them():
    (line,) = power(shared_test=(200, 0), sizes=(872, 0)).lines()
    assert "over which one subject alone shows differences from about " in line
    points = float(re.search(r"about ([\d.]+) points", line)[1]) / 100
    assert points == pytest.approx(least_over_stimuli(200, 200), abs=5e-4)
    generator, found = np.random.default_rng(2), []
    for _ in range(80):
        a, b = (generator.random(200) < 0.2 + side * points / 2 for side in (1, -1))
        found.append(stimulus_test(a.astype(float) - b, 200).pvalue < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("n_subjects", [3, 6])
def test_subjects_who_do_not_differ_show_what_the_plan_says_at_best(n_subjects):
    difference = least_over_subjects(n_subjects, 200)
    generator = np.random.default_rng(1)
    found = []
    for _ in range(400):
        a, b = (
            (generator.random((n_subjects, 200)) < 0.2 + side * difference / 2).astype(float)
            for side in (1, -1)
        )
        found.append(crossed_ttest(a - b).pvalue < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_smallest_p_of_ranks_is_that_of_pairs_that_agree(n):
    assert wilcoxon_signed_rank(np.arange(1.0, n + 1)).pvalue == pytest.approx(smallest_rank_p(n))


def test_the_plan_says_what_several_subjects_can_show_at_all():
    images = power(shared_test=(200, 0), sizes=(872, 0), comparisons=3)
    assert images.over_subjects(1) == []
    assert power().over_subjects(4) == []  # whose seeds draw their own test splits
    points = {n: f"{100 * least_over_subjects(n, 200, 3):.0f}" for n in (3, 10)}
    assert least_over_subjects(3, 200, 3) < 0.5 < least_over_subjects(2, 200)  # of no use
    assert images.over_subjects(2) == [
        "  over subjects: 2 subjects show hardly any difference; at least 3 are needed, which show "
        f"differences from {points[3]} points on at best, 10 from {points[10]}, where 20 % are "
        "hits (80 %, Holm over 3 pairs)",
        "  over subjects: Wilcoxon's p over 2 subjects can't be below 0.5; at least 7 are needed "
        "for p < 0.05 after Holm over 3",
    ]
    assert images.over_subjects(10) == [
        f"  over subjects: 10 subjects show differences from {points[10]} points on at best, "
        "where 20 % are hits (80 %, Holm over 3 pairs)",
        "  over subjects: Wilcoxon's p over 10 subjects can't be below 0.00195",
    ]


@pytest.mark.parametrize("n_stimuli", [1, 2])
def test_stimuli_too_few_for_any_number_of_subjects_are_said_to_be_so(n_stimuli):
    assert subject_words(5, n_stimuli) == (
        f"5 subjects with {n_stimuli} stimuli each show hardly any difference"
    )


def test_ranks_need_as_many_pairs_as_their_smallest_p_says():
    for comparisons in (1, 3, 6):
        needed = int(re.search(r"at least (\d+) are", rank_words(2, "pairs", comparisons))[1])
        assert (
            comparisons * smallest_rank_p(needed)
            < 0.05
            <= comparisons * smallest_rank_p(needed - 1)
        )
        assert "needed" not in rank_words(needed, "pairs", comparisons)


def test_a_difference_that_no_two_shares_have_is_not_promised():
    power = Power(
        seeds=3, sizes=(60, 20), comparisons=10, noise=0.2, metric="recall@10", shared_test=None
    )
    effects = [100 * 0.2 * smallest_detectable_effect(n, 60, 20, 10) for n in (3, 10)]
    assert effects[0] > 100 > effects[1]
    (line, *_) = power.lines()
    assert (
        f"3 seeds show no difference that can be ({effects[0]:.1f} points), 10 seeds from" in line
    )
