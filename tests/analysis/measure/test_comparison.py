from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import compare as compare_command
from analysis.measure import comparison, subjects
from analysis.measure.comparison import (
    CUT,
    DASH,
    SHARES,
    UNBOUNDED,
    Bounds,
    Comparison,
    Scores,
    above,
    bounded,
    compare,
    comparison_rows,
    comparison_values,
    difference_over_seeds,
    further_legend,
    further_rows,
    paired_differences,
    pairs_of,
    spread,
)
from analysis.measure.formats import plain
from analysis.measure.inference import corrected_resampled_ttest, effect_size, holm, win_share
from analysis.report import image_subjects

SIZES = (872, 292)
RNG = np.random.default_rng(0)
SPLIT = RNG.normal(0, 0.01, 10)
SCORES = {
    name: 0.1 + effect + SPLIT + RNG.normal(0, 0.005, 10)
    for name, effect in (("none", 0.0), ("a", 0.02), ("b", 0.021))
}


def between(
    scores: Scores, baseline: str | None = None, bounds: Bounds = UNBOUNDED, **stated: float
) -> list[Comparison]:
    """Each with each, or all with a baseline, at the seeds of one recording."""
    differences = [
        difference_over_seeds(f"{a} vs {b}", scores[a], scores[b], *SIZES, bounds=bounds)
        for a, b in pairs_of(scores, baseline)
    ]
    return compare(differences, **stated)


def against_chance(scores: Scores, chance: np.ndarray) -> list[Comparison]:
    """Each with what guessing reaches at the same seed."""
    differences = [
        difference_over_seeds(f"{name} vs chance", values, chance, *SIZES, bounds=above(chance))
        for name, values in scores.items()
    ]
    return compare(differences)


def test_every_pair_is_compared_by_seed_and_adjusted_for_all():
    comparisons = between(SCORES)
    pairs = list(combinations(SCORES, 2))
    assert [c.name for c in comparisons] == [f"{a} vs {b}" for a, b in pairs]
    tests = [corrected_resampled_ttest(SCORES[a] - SCORES[b], *SIZES) for a, b in pairs]
    assert [c.corrected for c in comparisons] == tests
    assert [c.p_holm for c in comparisons] == holm([t.pvalue for t in tests]).tolist()
    first = comparisons[0]
    assert first.effect_size == effect_size(SCORES["none"] - SCORES["a"])
    assert first.wins == win_share(SCORES["none"], SCORES["a"])
    assert first.naive.pvalue < first.corrected.pvalue
    assert first.posterior.below > 0.5


def test_a_baseline_leaves_fewer_comparisons_to_adjust_for():
    comparisons = between(SCORES, baseline="none")
    assert [c.name for c in comparisons] == ["a vs none", "b vs none"]
    smallest = min(c.corrected.pvalue for c in comparisons)
    assert min(c.p_holm for c in comparisons) == 2 * smallest


def test_chance_is_that_of_the_seed():
    chance = np.linspace(0.03, 0.05, 10)
    (none, *_) = against_chance(SCORES, chance)
    assert none.name == "none vs chance"
    assert none.corrected == corrected_resampled_ttest(SCORES["none"] - chance, *SIZES)


def test_an_interval_ends_where_differences_of_shares_do():
    a, b = np.array([1.0, 0.3]), np.array([0.0, 0.2])
    (own,) = between({"a": a, "b": b})
    (shares,) = between({"a": a, "b": b}, bounds=SHARES)
    assert own.corrected == corrected_resampled_ttest(a - b, *SIZES)
    assert own.corrected.low < -1
    assert own.corrected.high > 1
    assert shares.corrected == own.corrected._replace(low=-1.0, high=1.0)
    (values,) = comparison_values([shares], "recall@10")
    assert (values["low"], values["high"]) == (-1, 1)


def test_no_share_is_further_from_chance_than_all_or_nothing():
    chance = np.array([0.4, 0.5])
    assert above(chance) == pytest.approx((-0.45, 0.55))
    (wide,) = against_chance({"a": np.array([1.0, 0.5])}, chance)
    assert (wide.corrected.low, wide.corrected.high) == above(chance)
    (narrow,) = against_chance({"a": chance + np.array([0.1, 0.101])}, chance)
    expected = corrected_resampled_ttest([0.1, 0.101], *SIZES)
    assert narrow.corrected == pytest.approx(expected)


def test_what_nothing_estimates_has_no_ends():
    test = corrected_resampled_ttest([0.5, 0.5], *SIZES)
    assert bounded(test, SHARES) is test


# Tenths, whose sums and differences are rounded: 0.6 - 0.5 is not 0.5 - 0.4.
STEPS = np.round(0.1 * np.arange(1, 6), 1)


def test_a_difference_that_is_the_same_everywhere_is_not_testable():
    assert len(set((STEPS + 0.1) - STEPS)) > 1
    (found,) = between({"a": STEPS, "b": STEPS + 0.1})
    assert not found.corrected.testable
    (row,) = comparison_rows([found], "comparison", plain)
    assert (row["difference"], row["95 % interval"], row["d"]) == ("-0.1", "–", "–")
    assert (row["p"], row["p, Holm"], row["naive p"]) == ("not testable", "–", "–")
    assert "Not testable" in further_legend([found], 0.005, plain)
    assert "spread: a vs b." in further_legend([found], 0.005, plain)
    (values,) = comparison_values([found], "recall@10")
    assert {
        values[name] for name in ("p", "p_holm", "low", "high", "t", "p_naive", "p_wilcoxon")
    } == {None}
    assert values["mean"] == pytest.approx(-0.1)


def test_what_is_not_testable_counts_among_the_comparisons():
    one, _, other = between({**SCORES, "b": SCORES["a"] + 0.01})
    assert not other.corrected.testable
    assert one.p_holm == pytest.approx(2 * one.corrected.pvalue)
    assert one.n_comparisons == 3


def test_scores_that_differ_by_rounding_alone_are_equal():
    b = STEPS + np.array([1e-16, -1e-16, 0, 2e-16, 0])
    assert (b != STEPS).any()
    (found,) = between({"a": STEPS, "b": b})
    assert (found.corrected.mean, found.corrected.pvalue) == (0, 1)
    assert found.wins == 0.5


@given(st.floats(-1e6, 1e6), st.integers(2, 20))
def test_equal_scores_have_a_spread_of_exactly_0(value, n):
    assert spread(np.full(n, value)) == 0


@given(st.lists(st.integers(-1000, 1000), min_size=2).filter(lambda d: len(set(d)) > 1))
def test_what_differs_by_more_than_rounding_is_left_alone(thousandths):
    values = np.array(thousandths) / 1000
    assert spread(values) == values.std(ddof=1)
    assert paired_differences(values, np.zeros_like(values)).tolist() == values.tolist()


def test_what_other_tests_say_is_shown():
    (found, *_) = between(SCORES, equivalence=0.003)
    (row,) = further_rows([found])
    d = SCORES["none"] - SCORES["a"]
    posterior = stats.t(9, d.mean(), np.sqrt((1 / 10 + 292 / 872) * d.var(ddof=1)))
    below, above = posterior.cdf(-0.003), posterior.sf(0.003)
    wins = win_share(SCORES["none"], SCORES["a"])
    assert row == {
        "comparison": "none vs a",
        "P(A > B)": f"{wins:.2f}",
        "Wilcoxon p": f"{stats.wilcoxon(d).pvalue:.3f} (0.00195)",
        "P(below)": f"{below:.3f}",
        "P(equivalent)": f"{1 - below - above:.3f}",
        "P(above)": f"{above:.3f}",
    }
    words = further_legend([found], 0.003, plain)
    assert "within or above ±0.003" in words
    assert "Not testable" not in words


def test_every_legend_says_what_a_dash_is_and_where_intervals_end():
    cut = [comparison.LEGEND, subjects.LEGEND, image_subjects.LEGEND, compare_command.SHARED_TEST]
    uncut = [comparison.STIMULI_LEGEND, comparison.IMAGES_LEGEND]  # of means of such differences
    for legend in (*cut, *uncut):
        assert DASH in legend
        assert (CUT in legend) == (legend in cut)
    # A dash and a cut interval, as the legends mean them.
    alike, far = np.full(2, 0.5), np.array([0.1, 0.9])
    (pair,) = compare([difference_over_seeds("a vs b", alike, far, 1, 0, bounds=SHARES)])
    (row,) = comparison_rows([pair], "comparison", plain)
    assert row["95 % interval"] == "-1 to 1"
    (same,) = compare([difference_over_seeds("a vs b", alike, alike, 1, 0)])
    (row,) = comparison_rows([same], "comparison", plain)
    assert [row[name] for name in ("95 % interval", "p, Holm", "d", "naive p")] == ["–"] * 4


@pytest.mark.parametrize(("n", "needed"), [(2, True), (5, True), (6, False)])
def test_too_few_pairs_for_wilcoxon_are_said_to_be_so(n, needed):
    scores = {"a": np.arange(n) / 10, "b": np.arange(n) / 7}
    words = further_legend(between(scores), None, plain)
    assert ("at least 6 are needed for p < 0.05" in words) == needed
