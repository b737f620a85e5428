from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.measure.seed_results import (
    SeedResult,
    candidates,
    caption,
    difference_rows,
    mean_rows,
    score_rows,
    table_rows,
    value_rows,
)
from ssense.retrieval import METRICS, chance_metrics
from ssense.training.sentences import SHARE

N, J = 292, np.arange(10)


def test_scores_are_those_of_the_ranks(evaluation):
    scores = evaluation.scores["electrode"]
    found = 20 + 3 * J
    assert scores["recall@1"] == pytest.approx(np.full(10, 3 / N))
    assert scores["recall@10"] == pytest.approx(found / N)
    assert scores["recall@50"] == pytest.approx((found + 60) / N)
    mrr = (3 + (found - 3) / 10 + 60 / 50 + (N - found - 60) / N) / N
    assert scores["mrr"] == pytest.approx(mrr)


def test_table_1_has_the_paper_s_form(evaluation):
    rows = table_rows(evaluation)
    assert [row["family"] for row in rows] == ["no masking", "electrode", "random retrieval"]
    sd = 3 * math.sqrt(55 / 6)  # of 0, 3, ... 27 with n - 1
    assert rows[1] == {
        "family": "electrode",
        "best configuration": "electrode 0.5",
        "Recall@1": "1.03 ± 0.00",
        "Recall@10": f"{100 * 33.5 / N:.2f} ± {100 * sd / N:.2f}",
        "Recall@50": f"{100 * 93.5 / N:.2f} ± {100 * sd / N:.2f}",
        "MRR": f"{(3 + 3.05 + 1.2 + 198.5 / N) / N:.4f} ± {sd * (1 / 10 - 1 / N) / N:.4f}",
    }
    assert [rows[2][name] for name in ("Recall@1", "Recall@10", "Recall@50", "MRR")] == [
        "0.34",
        "3.42",
        "17.12",
        "0.0214",
    ]


def test_comparisons_are_paired_corrected_and_adjusted(evaluation):
    rows = difference_rows(evaluation, "recall@10")
    names = ["no masking vs chance", "electrode vs chance", "no masking vs electrode"]
    assert [row["Recall@10"] for row in rows] == names
    _, chance, pair = evaluation.comparisons("recall@10")
    corrected, naive = pair.corrected, pair.naive
    assert corrected.mean == pytest.approx(-4.5 / N)
    ratio = -4.5 / math.sqrt(55 / 6)
    assert naive.statistic == pytest.approx(ratio * math.sqrt(10))
    assert corrected.statistic == pytest.approx(ratio / math.sqrt(1 / 10 + 292 / 872))
    assert rows[2]["difference"] == "-1.54"
    assert rows[2]["p"] == f"{2 * stats.t.sf(-corrected.statistic, 9):.3f}" == "0.051"
    assert rows[2]["naive p"] == f"{2 * stats.t.sf(-naive.statistic, 9):.3f}" == "0.001"
    assert rows[2]["p, Holm"] == rows[2]["p"]  # the only comparison of two families
    low, high = 100 * chance.corrected.low, 100 * chance.corrected.high
    assert rows[1]["95 % interval"] == f"{low:.2f} to {high:.2f}"


def test_tests_allow_for_the_fewest_that_one_of_a_pair_was_trained_on(evaluation):
    """Splits overlap by more where fewer are trained on: n_test / n_train of the smaller part."""
    shares = {"no masking": {SHARE: 0.25}, "electrode": {}}
    *chances, pair = replace(evaluation, chosen=shares).comparisons("recall@10")
    _, _, before = evaluation.comparisons("recall@10")
    few, many = (math.sqrt(1 / 10 + N / n_train) for n_train in (218, 872))
    assert pair.corrected.error == pytest.approx(before.corrected.error * few / many)
    found = [c.corrected.error for c in chances]
    alone = [c.corrected.error for c in evaluation.comparisons("recall@10")[:2]]
    assert found == pytest.approx([alone[0] * few / many, alone[1]])
    result = SeedResult(
        name="s", evaluation=replace(evaluation, chosen=shares), look="", caption=""
    )
    sizes = {row["family"]: row["n_train"] for row in score_rows(result, "random")}
    assert sizes == {"no masking": 218, "electrode": 872}


def test_number_tables_keep_every_score(evaluation):
    result = SeedResult(name="search seeds", evaluation=evaluation, look="", caption="")
    rows = score_rows(result, "blocked")
    assert len(rows) == 2 * 10
    assert {(row["split"], row["n_train"], row["n_test"]) for row in rows} == {("blocked", 872, N)}
    for row in rows:
        by_metric = evaluation.scores[row["family"]]
        assert [row[m] for m in METRICS] == [by_metric[m][row["seed"]] for m in METRICS]
    (plain, masked) = mean_rows(result)
    assert masked["recall@10"] == pytest.approx(33.5 / N)
    assert plain["recall@10_sd"] == pytest.approx(2 * math.sqrt(55 / 6) / N)
    assert plain["mrr_chance"] == pytest.approx(chance_metrics(N)["mrr"])
    tests = value_rows(result)
    assert [(row["metric"], row["protocol"]) for row in tests] == [
        (metric, "search seeds") for metric in METRICS for _ in range(3)
    ]


def test_a_caption_says_what_was_tested_and_how_chosen(evaluation):
    words = caption(evaluation, "sub_9: test splits", "chosen before", "Text: openai.")
    assert words == (
        "sub_9: test splits, mean ± sd over 10 seeds (0 1 2 3 4 5 6 7 8 9). Each family's best "
        "configuration by mean validation Recall@10; chosen before. Text: openai."
    )


def test_test_splits_of_several_sizes_are_shown_as_a_range(evaluation):
    assert candidates(evaluation) == "292"
    (first, *others) = evaluation.retrievals["no masking"]
    smaller = replace(first, stimuli=first.stimuli[:290], ranks=first.ranks[:290])
    mixed = replace(evaluation, retrievals={"no masking": [*others, smaller]})
    assert candidates(mixed) == "290 to 292"
