from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.measure.comparison import EQUIVALENCE
from analysis.measure.formats import plain
from analysis.measure.inference import interquartile_mean
from analysis.measure.subjects import (
    compare_subjects,
    legend,
    subject_means,
    subject_rows,
    subject_tables,
)
from ssense.errors import UserError

RNG = np.random.default_rng(0)
SUBJECTS = [f"sub_{number}" for number in range(1, 7)]
SCORES = {
    subject: {
        movie: {
            "a": 0.2 + level + RNG.normal(0, 0.01, n_seeds),
            "b": 0.17 + level + RNG.normal(0, 0.01, n_seeds),
        }
        for movie, n_seeds in (("Cars", 5), ("Up", 8))[: 1 + (subject == "sub_3")]
    }
    for subject, level in zip(SUBJECTS, RNG.normal(0, 0.05, 6), strict=True)
}
CHANCE = dict(zip(SUBJECTS, [0.03, 0.04, 0.05] * 2, strict=True))


def one_recording(by_subject: dict[str, dict[str, np.ndarray]]) -> dict:
    """Scores by subject, each of the one recording there is."""
    return {subject: {"": found} for subject, found in by_subject.items()}


def test_seeds_then_recordings_are_averaged():
    scores = {
        "s": {"r1": {"a": np.array([0.0, 2.0])}, "r2": {"a": np.array([5.0])}},
        "t": {"r1": {"a": np.array([7.0, 8.0, 9.0])}},
    }
    assert subject_means(scores)["a"].tolist() == [3.0, 8.0]


def test_the_test_is_over_subjects():
    means = subject_means(SCORES)
    (found,) = compare_subjects(SCORES)
    expected = stats.ttest_rel(means["a"], means["b"])
    assert found.name == "a vs b"
    assert found.corrected.pvalue == pytest.approx(expected.pvalue)
    assert found.corrected.df == len(SUBJECTS) - 1
    interval = expected.confidence_interval(0.95)
    assert (found.corrected.low, found.corrected.high) == pytest.approx(tuple(interval))
    wilcoxon = stats.wilcoxon(means["a"] - means["b"])
    assert found.ranks.pvalue == pytest.approx(wilcoxon.pvalue)
    assert found.ranks.smallest == 2 / 2**6


def test_more_seeds_or_recordings_of_the_same_subjects_make_nothing_more_certain():
    (few,) = compare_subjects(SCORES)
    seeds = {
        subject: {r: {n: np.tile(x, 10) for n, x in f.items()} for r, f in found.items()}
        for subject, found in SCORES.items()
    }
    recordings = {
        subject: {f"{r}{copy}": f for r, f in found.items() for copy in range(5)}
        for subject, found in SCORES.items()
    }
    for scores in (seeds, recordings):
        (many,) = compare_subjects(scores)
        assert many.corrected == pytest.approx(few.corrected)


def test_each_subject_is_compared_with_its_own_chance():
    first, _, pair = compare_subjects(SCORES, CHANCE)
    above = subject_means(SCORES)["a"] - [CHANCE[name] for name in SUBJECTS]
    assert first.name == "a vs chance"
    assert first.corrected.pvalue == pytest.approx(stats.ttest_1samp(above, 0).pvalue)
    assert first.corrected.mean == pytest.approx(np.mean(above))
    assert pair.name == "a vs b"


def test_no_interval_goes_beyond_what_shares_can_be():
    wide = {
        n: {"": {"a": np.array([s]), "b": np.array([0.1])}} for n, s in (("x", 0.9), ("y", 0.2))
    }
    *chance, pair = compare_subjects(wide, {"x": 0.3, "y": 0.5})
    assert [(c.corrected.low, c.corrected.high) for c in chance[:1]] == [(-0.4, 0.6)]
    assert (pair.corrected.low, pair.corrected.high) == (-1, 1)
    (unknown,) = compare_subjects(wide)
    assert unknown.corrected.high > 1


def test_equivalence_reaches_the_posterior():
    means = subject_means(SCORES)
    d = means["a"] - means["b"]
    (found,) = compare_subjects(SCORES, equivalence=0.03)
    posterior = stats.t(5, d.mean(), stats.sem(d))
    assert found.posterior.above == pytest.approx(posterior.sf(0.03))


def test_subjects_of_no_difference_seldom_show_one():
    # Subjects differ from each other in what a configuration gains; on average it gains nothing.
    # Each has three recordings, which share its gain: taken for the unit they would show one.
    rng = np.random.default_rng(1)
    found = naive = 0
    for _ in range(200):
        scores = {
            str(s): {
                str(r): {"a": gain + rng.normal(0, 0.01, 5), "b": rng.normal(0, 0.01, 5)}
                for r in range(3)
            }
            for s, gain in enumerate(rng.normal(0, 0.03, 8))
        }
        recordings = {f"{s}{r}": {r: f} for s, of in scores.items() for r, f in of.items()}
        (by_subject,), (by_recording,) = map(compare_subjects, (scores, recordings))
        found += by_subject.corrected.pvalue < 0.05
        naive += by_recording.corrected.pvalue < 0.05
    assert stats.binomtest(found, 200, 0.05).pvalue > 0.001
    assert naive > 0.15 * 200


def test_the_middle_half_ignores_a_subject_that_fails():
    scores = one_recording(
        {str(s): {"a": np.full(4, 0.2)} for s in range(7)} | {"odd": {"a": np.full(4, 9.0)}}
    )
    (row,) = subject_rows(scores, plain)
    assert row["interquartile mean"].startswith("0.2 (")
    assert row["odd"] == "9"
    assert row["over subjects"].startswith("1.3")


def test_the_middle_half_is_of_all_runs_however_many_a_recording_has():
    runs = [np.arange(2.0), np.arange(2.0, 12.0), np.arange(12.0, 16.0)]
    found = interquartile_mean(runs)
    assert found.value == 7.5  # of 4 to 11; cut to two seeds each it would be of 1, 2, 3 and 12
    assert found.low < 7.5 < found.high


def test_the_bootstrap_of_recordings_of_unequal_seeds_is_that_of_all_their_draws():
    # Four runs have two in the middle; of two draws of {0, 1} beside 0.4 and 0.6 the mean is
    # (0.4 + 0)/2, (0.4 + 0.6)/2 or (0.6 + 1)/2 with chances of 1/4, 1/2 and 1/4.
    found = interquartile_mean([[0.4], [0.0, 1.0], [0.6]])
    assert found == pytest.approx((0.5, 0.2, 0.8))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], r"scores of every recording, got \[\]"),
        ([[1.0], []], r"scores of every recording, got \[1, 0\]"),
        ([[1.0], [np.nan]], "must be finite, got nan"),
    ],
)
def test_recordings_without_scores_have_no_middle(runs, message):
    with pytest.raises(ValueError, match=message):
        interquartile_mean(runs)


def test_a_single_seed_of_each_recording_has_no_bootstrap():
    scores = one_recording({str(s): {"a": np.array([s / 8])} for s in range(8)})
    (row,) = subject_rows(scores, plain)
    assert row["interquartile mean"] == "0.4375"


def test_the_tables_say_no_naive_p():
    comparisons = compare_subjects(SCORES)
    means, tests, further = subject_tables(SCORES, comparisons, plain)
    assert [row["configuration"] for row in means] == ["a", "b"]
    assert "naive p" not in tests[0]
    assert further[0]["comparison"] == tests[0]["comparison"] == "a vs b"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "recordings of at least two, got none"),
        ({"sub_3": SCORES["sub_3"]}, "the subject is the unit, .* at least two, got sub_3. Add"),
        (
            {"sub_1": SCORES["sub_1"], "sub_2": {"Cars": {"a": np.ones(3)}}},
            "sub_2, Cars and sub_1, Cars don't have the same configurations: b is in one of them",
        ),
        (
            {
                "s": {"r1": {"a": np.ones(3)}, "r2": {"b": np.ones(3)}},
                "t": {"r1": {"a": np.ones(3)}},
            },
            "s, r2 and s, r1 don't have the same configurations: a, b is in one of them only",
        ),
    ],
)
def test_subjects_that_cannot_be_compared_are_refused(scores, message):
    with pytest.raises(UserError, match=message) as error:
        compare_subjects(scores)
    assert "\n" not in str(error.value)


def at_chance(sizes: tuple[int, ...], n_seeds: int, rng: np.random.Generator) -> tuple[dict, dict]:
    """Hits of three configurations at chance, each seed's drawn anew, and chance."""
    scores = {
        str(s): {f: rng.binomial(n, 10 / n, n_seeds) / n for f in "abc"}
        for s, n in enumerate(sizes)
    }
    return one_recording(scores), {str(s): 10 / n for s, n in enumerate(sizes)}


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("sizes", [(59, 60), (59, 61, 60), (288, 292)])
def test_test_splits_of_other_sizes_make_no_false_claims(sizes, n_seeds):
    rng, pairs, chance = np.random.default_rng(3), 0, 0
    for _ in range(60):
        found = compare_subjects(*at_chance(sizes, n_seeds, rng))
        chance += any(c.p_holm < 0.05 for c in found[:3])
        pairs += any(c.p_holm < 0.05 for c in found[3:])
    for claims in (pairs, chance):
        assert stats.binomtest(claims, 60, 0.05, alternative="greater").pvalue > 0.01


def test_an_effect_in_three_subjects_is_still_shown():
    rng, shown = np.random.default_rng(4), 0
    for _ in range(20):
        scores, chance = at_chance((59, 61, 60), 5, rng)
        for found in scores.values():
            found[""]["a"] += 0.3
        shown += compare_subjects(scores, chance)[0].p_holm < 0.05
    assert shown > 14


def test_hits_bound_the_variance_over_subjects():
    hits = {59: ((11, 12), (10, 10)), 61: ((11, 13), (10, 11))}
    scores = one_recording(
        {str(n): dict(zip("ab", np.array(found) / n, strict=True)) for n, found in hits.items()}
    )
    (found,) = compare_subjects(scores)
    differences = {n: np.subtract(*map(np.array, ab)) / n for n, ab in hits.items()}
    least = np.mean([np.mean(d * (1 - d)) / n for n, d in differences.items()])
    assert found.corrected.error == pytest.approx(np.sqrt(least / 2 / 2))
    (shared,) = compare_subjects(scores, shared=True)
    assert shared.corrected.error == pytest.approx(np.sqrt(least / 2))
    assert "variance has a floor where scores are shares of hits: the spread" in legend(
        [found], EQUIVALENCE, plain
    )
