from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssense.retrieval import (
    METRICS,
    QUERIES_PER_BLOCK,
    NonFiniteError,
    chance_metrics,
    cosine_scores,
    ranks_of,
    retrieval_metrics,
    retrieval_ranks,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mid_ranks(queries: Tensor, candidates: Tensor, targets: Tensor) -> list[float]:
    """Ranks by sorting; a tie's members share the mean of the places they fill."""
    ranks = []
    for query, target in zip(queries.tolist(), targets.tolist(), strict=True):
        scores = [cosine(query, candidate) for candidate in candidates.tolist()]
        order = sorted(scores, reverse=True)
        places = [i for i, score in enumerate(order, 1) if score == scores[target]]
        ranks.append(sum(places) / len(places))
    return ranks


def cosine(a: list[float], b: list[float]) -> float:
    dot, aa, bb = (
        sum(x * y for x, y in zip(p, q, strict=True)) for p, q in ((a, b), (a, a), (b, b))
    )
    return dot / (aa * bb) ** 0.5


def metrics_of(ranks: list[float]) -> dict[str, float]:
    shares = {f"recall@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 10, 50)}
    return {**shares, "mrr": sum(1 / rank for rank in ranks) / len(ranks)}


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 3), (5, 3, 2), (40, 70, 8), (120, 120, 512)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_and_metrics_are_those_of_sorting(n, m, d, dtype):
    queries, candidates = gaussian(n, d).to(dtype), gaussian(m, d, seed=1).to(dtype)
    targets = torch.randint(m, (n,), generator=torch.Generator().manual_seed(2))
    ranks = mid_ranks(queries, candidates, targets)
    assert retrieval_ranks(queries, candidates, targets).tolist() == ranks
    assert retrieval_metrics(queries, candidates, targets) == pytest.approx(metrics_of(ranks))


signs = st.sampled_from([-1.0, 1.0])  # four of them have norm 2: every cosine and tie is exact


@settings(deadline=None)
@given(st.data())
def test_ties_get_the_mean_of_their_places(data):
    rows = st.lists(st.lists(signs, min_size=4, max_size=4), min_size=1, max_size=12)
    queries, candidates = torch.tensor(data.draw(rows)), torch.tensor(data.draw(rows))
    targets = torch.tensor([data.draw(st.integers(0, len(candidates) - 1)) for _ in queries])
    ranks = mid_ranks(queries, candidates, targets)
    assert retrieval_ranks(queries, candidates, targets).tolist() == ranks


@pytest.mark.parametrize("n", [QUERIES_PER_BLOCK - 1, QUERIES_PER_BLOCK, 2 * QUERIES_PER_BLOCK + 1])
def test_ranks_are_the_same_in_blocks_of_queries(n):
    queries, candidates = gaussian(n, 6), gaussian(40, 6, seed=1)[torch.arange(n) % 40]
    own = torch.arange(n)
    whole = ranks_of(cosine_scores(queries, candidates), own)
    assert retrieval_ranks(queries, candidates, own).equal(whole)


def test_memory_grows_with_the_candidates_and_not_with_their_square():
    sizes = [4 * QUERIES_PER_BLOCK, 8 * QUERIES_PER_BLOCK]
    small, large = (largest_tensor(gaussian(n, 4)) for n in sizes)
    assert large <= 2 * small


def largest_tensor(embeddings: Tensor) -> int:
    """Bytes of the largest result of an operation while each embedding finds itself."""
    with Largest() as largest:
        retrieval_ranks(embeddings, embeddings, torch.arange(len(embeddings)))
    return largest.bytes


class Largest(TorchDispatchMode):
    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = (each for each in tree_leaves(result) if isinstance(each, Tensor))
        self.bytes = max(self.bytes, *(each.nbytes for each in tensors), 0)
        return result


def test_copies_of_a_candidate_tie_exactly():
    # Sums of 511 products, blocked differently by column: rounding would order the copies.
    sentences = gaussian(7, 511)
    candidates = sentences[torch.arange(70) % 7]  # ten copies of each
    queries = gaussian(30, 511, seed=1)
    targets = torch.arange(30)
    of_seven = torch.tensor(mid_ranks(queries, sentences, targets % 7))
    expected = (of_seven - 1) * 10 + 5.5
    assert retrieval_ranks(queries, candidates, targets).equal(expected.double())


def test_an_encoder_that_says_nothing_scores_mid_rank():
    candidates = gaussian(99, 16)
    ranks = retrieval_ranks(torch.zeros(4, 16), candidates, torch.arange(4))
    assert ranks.tolist() == [50.0] * 4


def test_hand_computed_metrics():
    candidates = torch.eye(4)
    queries = torch.tensor([[9.0, 3, 2, 1], [9, 3, 2, 1], [9, 3, 3, 1], [1, 1, 1, 1]])
    targets = torch.tensor([0, 3, 1, 2])
    assert retrieval_ranks(queries, candidates, targets).tolist() == [1, 4, 2.5, 2.5]
    assert retrieval_metrics(queries, candidates, targets) == {
        "recall@1": 0.25,
        "recall@10": 1.0,
        "recall@50": 1.0,
        "mrr": pytest.approx((1 + 1 / 4 + 2 / 2.5) / 4),
    }


def test_lengths_do_not_matter():
    queries, candidates, targets = gaussian(20, 8), gaussian(20, 8, seed=1), torch.arange(20)
    lengths = torch.logspace(-3, 3, 20)[:, None]
    expected = retrieval_ranks(queries, candidates, targets)
    assert retrieval_ranks(queries * lengths, candidates, targets).equal(expected)
    assert retrieval_ranks(queries, candidates * lengths, targets).equal(expected)


@pytest.mark.parametrize("k", [1, 10, 50])
def test_a_target_at_rank_k_counts_for_recall_at_k(k):
    angle = torch.linspace(0, 1.5, 60)
    candidates = torch.stack([angle.cos(), angle.sin()], dim=1)  # ever further from the query
    query = torch.tensor([[1.0, 0.0]])
    at = {
        rank: retrieval_metrics(query, candidates, torch.tensor([rank - 1]))[f"recall@{k}"]
        for rank in (k, k + 1)
    }
    assert at == {k: 1.0, k + 1: 0.0}


@pytest.mark.parametrize(
    ("queries", "candidates", "targets", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 3), torch.arange(3), "got 2 queries for 3 targets"),
        (torch.ones(0, 3), torch.ones(4, 3), torch.arange(0), "got 0 queries for 0 targets"),
        (torch.ones(2, 3), torch.ones(0, 3), torch.arange(2), r"in \[0, 0\), got 0 to 1"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 4]), r"in \[0, 4\), got 0 to 4"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.tensor([-1, 0]), r"in \[0, 4\), got -1 to 0"),
    ],
)
def test_what_cannot_be_ranked_is_refused(queries, candidates, targets, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(queries, candidates, targets)


@pytest.mark.parametrize(("query", "candidate"), [(torch.nan, 1.0), (1.0, torch.inf)])
def test_embeddings_that_are_not_finite_are_refused(query, candidate):
    queries, candidates = torch.full((1, 3), query), torch.full((4, 3), candidate)
    with pytest.raises(NonFiniteError, match="embeddings must be finite"):
        retrieval_metrics(queries, candidates, torch.arange(1))


# ---------------------------------------------------------------- chance


@pytest.mark.parametrize("n", [1, 7, 10, 49, 50, 51, 292])
def test_chance_is_the_mean_over_all_ranks(n):
    ranks = range(1, n + 1)
    expected = {f"recall@{k}": Fraction(sum(rank <= k for rank in ranks), n) for k in (1, 10, 50)}
    expected["mrr"] = sum(Fraction(1, rank) for rank in ranks) / n
    assert chance_metrics(n) == pytest.approx({k: float(v) for k, v in expected.items()})
    assert tuple(chance_metrics(n)) == METRICS


@pytest.mark.parametrize(
    ("n", "percent", "mrr"),
    [
        (292, (0.34, 3.42, 17.12), 0.0214),  # SSENSE, table 1, last row
        (290, (0.34, 3.45, 17.24), 0.0215),
        (200, (0.50, 5.00, 25.00), 0.0294),
    ],
)
def test_published_chance_levels(n, percent, mrr):
    *recalls, chance_mrr = chance_metrics(n).values()
    assert tuple(round(100 * recall, 2) for recall in recalls) == percent
    assert round(chance_mrr, 4) == mrr


def test_random_embeddings_score_at_chance():
    metrics = retrieval_metrics(
        gaussian(4000, 24), gaussian(200, 24, seed=1), torch.arange(4000) % 200
    )
    for name, chance in chance_metrics(200).items():
        # Four standard errors of a share; the reciprocal rank varies less than a 0/1 share does.
        assert metrics[name] == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)


@pytest.mark.parametrize("n", [0, -3])
def test_chance_needs_a_candidate(n):
    with pytest.raises(ValueError, match=f"n_candidates must be at least 1, got {n}"):
        chance_metrics(n)
