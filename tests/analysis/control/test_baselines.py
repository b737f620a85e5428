from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.control.baselines import (
    WEIGHTS,
    best_bandwidth,
    best_weight,
    chance_among,
    length_scores,
    mixed_scores,
    of_similar_duration,
    own_recall,
    permuted_metrics,
    quantile_bins,
    smoothed_targets,
    standardised,
)
from ssense.retrieval import chance_metrics, metrics_of, ranks_of

RNG = np.random.default_rng(0)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.standard_normal(shape))


def test_lengths_are_scored_by_their_distance_from_the_line_of_least_squares():
    train_duration, duration = tensor(40).exp(), tensor(7).exp()
    train_length, length = 20 * train_duration + tensor(40), tensor(9).exp()
    slope, intercept = np.polyfit(train_duration, train_length, 1)
    expected = -np.abs(length.numpy()[None] - (slope * duration.numpy() + intercept)[:, None])
    scores = length_scores(train_duration, train_length, duration, length)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_smoothing_goes_from_the_nearest_neighbour_to_the_mean():
    train_at, train_text = torch.arange(10.0).double(), tensor(10, 4)
    at = torch.tensor([2.2, 8.9]).double()
    torch.testing.assert_close(smoothed_targets(train_at, train_text, at, 1e-3), train_text[[2, 9]])
    everything = train_text.mean(dim=0).expand(2, 4)
    torch.testing.assert_close(smoothed_targets(train_at, train_text, at, 1e4), everything)


def test_the_bandwidth_is_the_one_that_retrieves_best():
    at = torch.linspace(0, 1, 200).double()
    text = torch.stack([torch.cos(6 * at), torch.sin(6 * at)], dim=1)
    assert best_bandwidth(at[::2], text[::2], at[1::2], text[1::2]) <= 0.1


def test_several_features_are_near_where_all_of_them_are():
    train_at, train_text = tensor(30, 3) * torch.tensor([1.0, 100.0, 0.01]), tensor(30, 4)
    at = tensor(5, 3) * torch.tensor([1.0, 100.0, 0.01])
    spread = train_at.std(dim=0)
    expected = []
    for query in at:
        weights = torch.exp(-0.5 * ((query - train_at) / (0.7 * spread)).square().sum(dim=1))
        expected.append((weights[:, None] * train_text).sum(dim=0) / weights.sum())
    found = smoothed_targets(train_at, train_text, at, 0.7)
    torch.testing.assert_close(found, torch.stack(expected))
    # A feature that never varies says nothing.
    constant = torch.ones(30, 1).double(), torch.full((5, 1), 9.0).double()
    more = [
        torch.cat([values, each], dim=1)
        for values, each in zip((train_at, at), constant, strict=True)
    ]
    torch.testing.assert_close(smoothed_targets(more[0], train_text, more[1], 0.7), found)


def test_what_is_not_known_of_a_sentence_is_what_training_sentences_are_like():
    nan = torch.nan
    train = torch.tensor([[1.0, 5.0, nan], [3.0, 5.0, nan], [nan, 5.0, nan]]).double()
    values = torch.tensor([[3.0, 7.0, 1.0], [nan, nan, nan], [0.0, 5.0, 2.0]]).double()
    # Mean 2 and standard deviation 1 of the first; nothing to go by in the second and the third.
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 0], [-2, 0, 0]]).double()
    torch.testing.assert_close(standardised(train, values), expected)
    alike = torch.full((7, 1), 0.1).double()
    assert not standardised(alike, alike + 1).any()


def test_scores_are_mixed_in_each_query_s_own_standard_deviations():
    first, second = 1e6 * tensor(6, 9) - 3e6, 1e-3 * tensor(6, 9)
    z = [
        (each - each.mean(1, keepdim=True)) / each.std(1, correction=0, keepdim=True)
        for each in (first, second)
    ]
    torch.testing.assert_close(mixed_scores(first, second, 0.3), 0.3 * z[0] + 0.7 * z[1])
    for weight, alone in ((1.0, first), (0.0, second)):
        mixed = mixed_scores(first, second, weight)
        assert mixed.argsort(dim=1).equal(alone.argsort(dim=1))
    # Candidates that are all alike leave the order to the other score, whatever the weight.
    alike = torch.full((6, 9), 0.1).double()
    assert mixed_scores(alike, second, 0.9).argsort(dim=1).equal(second.argsort(dim=1))


def test_copies_of_a_candidate_stay_tied_when_scores_are_mixed():
    first, second = tensor(5, 8), tensor(5, 8)
    first[:, 6], second[:, 6] = first[:, 2], second[:, 2]
    mixed = mixed_scores(first, second, 0.3)
    assert mixed[:, 6].equal(mixed[:, 2])


@given(st.integers(0, 2**32 - 1))
def test_a_mixture_is_never_worse_than_a_score_alone_where_it_is_chosen(seed):
    first, second = np.random.default_rng(seed).standard_normal((2, 25, 25))
    own = 2 * np.eye(25)
    first, second = torch.from_numpy(first + own), torch.from_numpy(second)
    weight = best_weight(first, second)
    recalls = {each: own_recall(mixed_scores(first, second, each)) for each in WEIGHTS}
    assert recalls[weight] == max(recalls.values())
    assert recalls[weight] >= max(own_recall(first), own_recall(second))


def test_similar_durations_are_within_a_tenth_either_way():
    duration = torch.tensor([1.0, 1.09, 1.2, 0.95, 3.0]).double()
    scores = of_similar_duration(torch.zeros(5, 5), duration)
    for i, own in enumerate(duration.tolist()):
        for j, other in enumerate(duration.tolist()):
            is_similar = max(own, other) * 0.9 <= min(own, other) or i == j
            assert (scores[i, j] == 0) == is_similar


def test_a_sentence_is_its_own_candidate_however_short():
    scores = of_similar_duration(torch.zeros(2, 2), torch.tensor([0.0, 0.0]))
    assert not scores.any()
    (alone,) = of_similar_duration(torch.zeros(2, 2), torch.tensor([0.0, 1.0])).unbind()[:1]
    assert alone.tolist() == [0, -torch.inf]


def test_chance_among_candidates_is_the_mean_over_their_orders():
    scores = torch.zeros(3, 4)
    scores[0, 1:] = scores[1, 3] = -torch.inf  # 1, 3 and 4 candidates
    expected = {"recall@1": 0.0, "recall@2": 0.0, "mrr": 0.0}
    for n in (1, 3, 4):
        ranks = [order.index(0) + 1 for order in permutations(range(n))]
        for name, value in (
            ("recall@1", np.mean([r <= 1 for r in ranks])),
            ("recall@2", np.mean([r <= 2 for r in ranks])),
            ("mrr", np.mean([1 / r for r in ranks])),
        ):
            expected[name] += value / 3
    assert chance_among(scores, (1, 2)) == pytest.approx(expected)


def test_among_all_candidates_chance_is_the_closed_form():
    assert chance_among(torch.zeros(30, 30), (1, 10, 50)) == pytest.approx(chance_metrics(30))


def test_permuted_pairs_reach_chance_whatever_the_scores():
    scores, generator = tensor(60, 60), torch.Generator().manual_seed(0)
    metrics = permuted_metrics(scores, torch.zeros(60, dtype=torch.int64), 400, generator)
    mean = {name: np.mean([m[name] for m in metrics]) for name in metrics[0]}
    assert mean == pytest.approx(chance_metrics(60), abs=0.02)


def test_a_permutation_changes_the_candidate_that_each_query_looks_for():
    scores = tensor(12, 12).round()  # with ties
    bins = torch.arange(12) % 3
    found = permuted_metrics(scores, bins, 30, torch.Generator().manual_seed(0))
    possible = [
        sorted(ranks_of(scores, torch.full((12,), j))[i].item() for j in range(i % 3, 12, 3))
        for i in range(12)
    ]
    lowest, highest = (np.mean([1 / ranks[k] for ranks in possible]) for k in (-1, 0))
    assert all(lowest <= each["mrr"] <= highest for each in found)
    assert len({each["mrr"] for each in found}) > 20
    everything = permuted_metrics(scores, torch.arange(12), 1, torch.Generator())  # nowhere to go
    assert everything == [metrics_of(ranks_of(scores, torch.arange(12)))]


def test_within_bins_nothing_is_lost_that_the_bins_know():
    # Scores that know the bin and no more: a permutation within bins changes nothing at all.
    bins = torch.arange(40) % 4
    scores = (bins[:, None] == bins[None, :]).double()
    own = metrics_of(ranks_of(scores, torch.arange(40)))
    generator = torch.Generator().manual_seed(0)
    assert permuted_metrics(scores, bins, 5, generator) == [own] * 5
    assert permuted_metrics(scores, torch.zeros_like(bins), 1, generator) != [own]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 12))
def test_bins_are_of_equal_size_and_in_order(values, n):
    bins = quantile_bins(torch.tensor(values, dtype=torch.float64), n).numpy()
    sizes = np.bincount(bins, minlength=n)
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == n
    order = np.argsort(values, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
