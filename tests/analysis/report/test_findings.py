from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.measure.evaluation import Evaluation, Retrieval
from analysis.measure.inference import stimulus_test
from analysis.report.findings import findings, power_note, repeats_note, verdict
from ssense.data.splits import Split
from ssense.training.images import ImageSpec
from ssense.training.sentences import SentenceSpec

N = 292


def by_hand(differences: np.ndarray) -> tuple[float, float, float]:
    """Interval and p of the corrected test, from its definition."""
    error = math.sqrt((1 / len(differences) + 292 / 872) * differences.var(ddof=1))
    df = len(differences) - 1
    margin = stats.t.ppf(0.975, df) * error
    p = 2 * stats.t.sf(abs(differences.mean()) / error, df)
    return differences.mean() - margin, differences.mean() + margin, p


def test_each_family_is_told_against_chance(evaluation):
    first, second, _ = findings(evaluation)
    found = 100 * (20 + 3 * np.arange(10)) / N
    low, high, p = by_hand(found - 1000 / N)
    assert second == (
        f"Electrode reaches 11.5 % Recall@10, {found.mean() - 1000 / N:.1f} points above chance "
        f"(95 % CI {low:.1f} to {high:.1f}, corrected p = {p:.3f}, after Holm p = {p:.3f})."
    )
    assert first.startswith("No masking reaches 9.9 % Recall@10, 6.5 points above chance (95 % CI")


def test_a_difference_that_is_not_shown_comes_with_one_that_would_be(evaluation):
    sentence = findings(evaluation)[2]
    low, high, p = by_hand(100 * np.arange(10) / N)
    head, tail = sentence.split("): ")
    assert head == (
        f"No masking is 1.5 points below electrode in Recall@10 (95 % CI {low:z.1f} to {high:.1f}, "
        f"corrected p = {p:.3f}, after Holm p = {p:.3f}"
    )
    assert p > 0.05
    sd = 100 * math.sqrt(55 / 6) / N
    assert tail == (
        f"no difference is shown; {2.08 * sd:.1f} points or more would be, 80 % of times."
    )


def test_what_would_be_shown_is_what_holm_s_adjustment_shows(evaluation):
    three = {**evaluation.retrievals, "again": evaluation.retrievals["electrode"][::-1]}
    sentences = findings(dataclasses.replace(evaluation, retrievals=three))[3:]
    (points,) = (
        float(re.search(r"shown; ([\d.]+) points", each)[1])
        for each in sentences
        if each.startswith("No masking is") and "electrode" in each
    )
    error = 100 / N * math.sqrt((1 / 10 + 292 / 872) * 55 / 6)
    critical = stats.t.isf(0.05 / 2 / 3, 9)  # Bonferroni's of three pairs, Holm's first step
    assert stats.nct.sf(critical, 9, points / error) == pytest.approx(0.8, abs=0.03)


def test_a_clear_difference_is_stated_and_no_more(evaluation):
    clear = {
        "no masking": evaluation.retrievals["no masking"],
        "electrode": [
            dataclasses.replace(r, ranks=np.where(np.arange(N) < 150 + j % 2, 1.0, 292.0))
            for j, r in enumerate(evaluation.retrievals["electrode"])
        ],
    }
    sentence = findings(dataclasses.replace(evaluation, retrievals=clear))[2]
    assert re.fullmatch(
        r"No masking is 41\.\d points below electrode in Recall@10 "
        r"\(95 % CI 3\d\.\d to 4\d\.\d, corrected p < 0\.001, after Holm p < 0\.001\)\.",
        sentence,
    )


def test_of_many_pairs_those_that_differ_have_a_sentence_and_the_verdict_counts_them(evaluation):
    first = evaluation.retrievals["no masking"]
    second = evaluation.retrievals["electrode"]
    # Far above the others, at every seed by as much but for one hit or two.
    high = [
        Retrieval(
            stimuli=each.stimuli,
            ranks=np.where(each.ranks == 292, np.where(np.arange(292) < 250 + seed, 1, 292), 10),
            first=each.first,
        )
        for seed, each in enumerate(first)
    ]
    families = {f"low {n}": first if n % 2 else second for n in range(7)} | {"high": high}
    several = dataclasses.replace(evaluation, retrievals=families)
    told = findings(several)
    assert len(told) == 8 + 7 + 1
    assert all("points below high in Recall@10 (95 % CI" in each for each in told[8:15])
    assert told[-1] == "Between 21 other pairs no difference is shown."
    words = verdict([*families], several.comparisons("recall@10"), "Recall@10")
    assert words.count("high is better than") == 7
    more = {f"high {n}": high for n in range(2)}
    families = {f"low {n}": first if n % 2 else second for n in range(6)} | more
    several = dataclasses.replace(evaluation, retrievals=families)
    words = verdict([*families], several.comparisons("recall@10"), "Recall@10")
    assert "12 of 28 pairs differ" in words


def test_a_score_at_chance_is_not_called_above(evaluation):
    rng = np.random.default_rng(0)
    at_chance = [
        dataclasses.replace(r, ranks=rng.permutation(N) + 1.0)
        for r in evaluation.retrievals["electrode"]
    ]
    spread = [dataclasses.replace(r, ranks=r.ranks[rng.integers(0, N, N)]) for r in at_chance]
    changed = dataclasses.replace(evaluation, retrievals={"electrode": spread})
    (sentence,) = findings(changed)
    assert sentence.endswith("): this may be chance.")


@given(
    st.lists(st.integers(0, N), min_size=2, max_size=6),
    st.lists(st.integers(0, N), min_size=2, max_size=6),
)
def test_numbers_and_signs_agree_whatever_the_scores(first, second):
    n = min(len(first), len(second))

    def retrievals(counts: list[int]) -> list[Retrieval]:
        ranks = [np.repeat([1.0, 292.0], [count, N - count]) for count in counts[:n]]
        nothing = np.zeros((N, 5), int)
        return [Retrieval(stimuli=nothing[:, 0], ranks=each, first=nothing) for each in ranks]

    evaluation = Evaluation(
        specification=SentenceSpec(),
        chosen={"a": {}, "b": {}},
        splits=dict.fromkeys(range(n), Split(np.arange(872), np.arange(0), np.arange(N))),
        retrievals={"a": retrievals(first), "b": retrievals(second)},
    )
    sentence = findings(evaluation)[2]
    points, side, low, high = re.match(
        r"A is ([\d.]+) points (above|below|from) b in Recall@10 \("
        r"(?:95 % CI (-?[\d.]+) to (-?[\d.]+),|not testable)",
        sentence,
    ).groups()
    gap = 100 * (np.mean(first[:n]) - np.mean(second[:n])) / N
    assert float(points) == pytest.approx(abs(gap), abs=0.051)
    assert (side == "from") == (float(points) == 0)
    assert side in ("from", "below" if gap < 0 else "above")
    if low is not None:
        assert float(low) - 0.1 <= float(points) <= float(high) + 0.1
    else:
        assert sentence.endswith("no difference is shown.")


def test_power_is_that_of_the_test_after_holm(evaluation):
    # 2.08 standard deviations for ten seeds, one pair
    sd = 100 * math.sqrt(55 / 6) / N
    assert power_note(evaluation) == (
        "With 10 seeds the test finds a difference between two families (80 % power, two-sided "
        f"5 %, after Holm over 1) in Recall@10 from {2.08 * sd:.1f} points on. Smaller ones may "
        "not show."
    )


def test_a_single_family_has_no_pair_to_speak_of(evaluation):
    alone = {"electrode": evaluation.retrievals["electrode"]}
    note = power_note(dataclasses.replace(evaluation, retrievals=alone))
    assert note == "There is a single family: no difference between families is tested."


def of_hits(counts: list[int], n: int = N) -> list[Retrieval]:
    """Retrievals with so many hits at rank 1, at random queries, the rest last."""
    generator = np.random.default_rng(sum(counts))
    nothing = np.zeros((n, 5), int)
    ranks = [generator.permutation(np.repeat([1.0, n], [k, n - k])) for k in counts]
    return [Retrieval(stimuli=nothing[:, 0], ranks=each, first=nothing) for each in ranks]


def verdict_of(evaluation: Evaluation, **hits: list[int]) -> str:
    retrievals = {name.replace("_", " "): of_hits(counts) for name, counts in hits.items()}
    splits = dict.fromkeys(range(len(next(iter(hits.values())))), evaluation.splits[0])
    found = dataclasses.replace(evaluation, retrievals=retrievals, splits=splits)
    return verdict(list(retrievals), found.comparisons("recall@10"), "Recall@10")


HIGH, LOW, CHANCE = (list(range(n, n + 20, 2)) for n in (150, 80, 1))


def test_a_verdict_says_what_is_above_chance_and_what_is_better(evaluation):
    assert verdict_of(evaluation, a=HIGH, b=HIGH[::-1], c=LOW) == (
        "In Recall@10, all 3 families are above chance; a is better than c and b is better than c."
    )
    assert verdict_of(evaluation, a=HIGH, b=HIGH[::-1]) == (
        "In Recall@10, both families are above chance; none is shown to be better than another."
    )
    assert verdict_of(evaluation, a=CHANCE, b=LOW, c=CHANCE[::-1]).startswith(
        "In Recall@10, b is above chance, the others are not shown to be; b is better than a and"
    )
    assert verdict_of(evaluation, no_masking=CHANCE) == (
        "In Recall@10, no masking is not shown to be above chance."
    )


def test_a_verdict_names_its_kind_and_takes_a_clause(evaluation):
    tests = evaluation.comparisons("recall@10")
    words = verdict(["a", "b"], tests, "Top-1", "duration alone explains the score", "objectives")
    assert words == (
        "In Top-1, both objectives are above chance; none is shown to be better than another; "
        "duration alone explains the score."
    )


def test_names_with_a_spelling_of_their_own_have_it_in_prose_and_keep_it_in_tables(evaluation):
    names = {"no masking": "ssr, + R_v", "electrode": "infonce"}
    chosen, retrievals = (
        {new: found[old] for old, new in names.items()}
        for found in (evaluation.chosen, evaluation.retrievals)
    )
    renamed = dataclasses.replace(evaluation, chosen=chosen, retrievals=retrievals)
    first, second, pair = findings(renamed)
    assert first.startswith("SSR, + R_v reaches ")
    assert second.startswith("InfoNCE reaches ")
    assert re.match(r"SSR, \+ R_v is [\d.]+ points below InfoNCE in Recall@10 ", pair)
    tests = renamed.comparisons("recall@10")
    assert "InfoNCE" in verdict(["infonce"], tests[1:2], "Recall@10")
    assert [test.name for test in tests][:2] == ["ssr, + R_v vs chance", "infonce vs chance"]


def test_two_seeds_with_one_and_the_same_difference_give_no_verdict(evaluation):
    # One sentence more at both of two seeds.
    words = verdict_of(evaluation, a=[20, 24], b=[21, 25])
    assert words.endswith("; none is shown to be better than another.")


def test_where_seeds_share_the_test_split_its_sentences_are_the_unit(evaluation):
    generator = np.random.default_rng(0)
    all_ranks = [
        generator.permuted(np.tile(np.arange(1.0, N + 1), (N, 1)), axis=1) for _ in range(5)
    ]
    own = np.arange(N)
    for ranks in all_ranks:
        ranks[own[:80], own[:80]] = 1  # at the same sentences for every seed
    shared = [
        Retrieval(stimuli=own, ranks=r.diagonal(), first=np.zeros((N, 5), int), all_ranks=r)
        for r in all_ranks
    ]
    held_out = dataclasses.replace(
        evaluation,
        specification=SentenceSpec(split="held-out"),
        retrievals={"a": shared},
        splits={seed: evaluation.splits[seed] for seed in range(5)},
    )
    (test,) = held_out.comparisons("recall@10")
    by_sentence = np.mean([r.ranks <= 10 for r in shared], axis=0) - 10 / N
    assert test.corrected.mean == pytest.approx(by_sentence.mean())
    assert test.corrected == stimulus_test(by_sentence, 20)
    # All 80 hits are at the beginning: few blocks, so that less is known than of single sentences.
    assert test.corrected.pvalue > stimulus_test(by_sentence, N).pvalue
    # The same seeds once more are no more evidence; the test over seeds takes them for some.
    twice = dataclasses.replace(held_out, retrievals={"a": shared * 2}, splits=evaluation.splits)
    (again,) = twice.comparisons("recall@10")
    assert again.corrected == test.corrected
    assert again.naive.pvalue < test.naive.pvalue
    assert "the unit is the sentence" in held_out.legend
    # Nothing is corrected for overlapping splits here, as it is where seeds draw test splits anew.
    (said,) = findings(held_out)
    assert "p over sentences " in said
    assert "corrected" not in said
    images = dataclasses.replace(held_out, specification=ImageSpec())
    assert "p over images " in findings(images)[0]
    assert "corrected p " in findings(evaluation)[0]


def test_doubles_among_the_candidates_are_counted_seed_by_seed(evaluation):
    sentences = [f"sentence {row // 2 if row < 600 else row}" for row in range(1454)]
    counts = []
    for retrieval in evaluation.retrievals["electrode"]:
        texts = [sentences[row] for row in retrieval.stimuli]
        counts.append(sum(texts.count(text) > 1 for text in texts))
    note = repeats_note(evaluation, sentences)
    assert min(counts) > 0
    assert note.endswith(
        f"Of 292 test sentences {np.mean(counts):.1f} have such a double among their candidates "
        f"(mean over 10 seeds; {min(counts)} to {max(counts)})."
    )
    assert repeats_note(evaluation, [str(row) for row in range(1454)]).endswith(
        "No test sentence has such a double among its candidates."
    )
