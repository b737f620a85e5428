from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.evaluation import Evaluation, Retrieval
from analysis.findings import findings, power_note, repeats_note

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
    assert tail == f"no difference is shown; {2.08 * sd:.1f} points or more would be."


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
        return [Retrieval(rows=nothing[:, 0], ranks=each, first=nothing) for each in ranks]

    evaluation = Evaluation(
        chosen={"a": {}, "b": {}},
        seeds=tuple(range(n)),
        retrievals={"a": retrievals(first), "b": retrievals(second)},
        n_train=872,
        n_test=N,
        sizes=(872, N),
    )
    sentence = findings(evaluation)[2]
    points, side, low, high = re.match(
        r"A is ([\d.]+) points (above|below) b in Recall@10 \(95 % CI (-?[\d.]+) to (-?[\d.]+),",
        sentence,
    ).groups()
    gap = 100 * (np.mean(first[:n]) - np.mean(second[:n])) / N
    assert float(points) == pytest.approx(abs(gap), abs=0.051)
    assert side == ("below" if gap < -1e-9 else "above")
    assert float(low) - 0.1 <= float(points) <= float(high) + 0.1


def test_power_is_that_of_the_noncentral_t(evaluation):
    note = power_note(evaluation)
    # "With 10 seeds ... from 2.1 standard deviations": the effect, checked by its power
    effect = 2.08 / math.sqrt(1 / 10 + 292 / 872)
    power = stats.nct.sf(stats.t.isf(0.025, 9), 9, effect)
    assert power == pytest.approx(0.8, abs=0.01)
    sd = 100 * math.sqrt(55 / 6) / N
    assert "With 10 seeds" in note
    assert "from 2.1 standard deviations" in note
    assert f"in Recall@10 that is {2.08 * sd:.1f} points. Smaller ones may not show." in note


def test_a_single_family_has_no_pair_to_speak_of(evaluation):
    alone = {"electrode": evaluation.retrievals["electrode"]}
    note = power_note(dataclasses.replace(evaluation, retrievals=alone))
    assert note.endswith("standard deviations of the paired differences on.")


def test_doubles_among_the_candidates_are_counted_seed_by_seed(evaluation):
    sentences = [f"sentence {row // 2 if row < 600 else row}" for row in range(1454)]
    counts = []
    for retrieval in evaluation.retrievals["electrode"]:
        texts = [sentences[row] for row in retrieval.rows]
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
