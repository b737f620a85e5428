"""Ranks and retrieval metrics, and what chance reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

RECALL_AT = (1, 10, 50)
"""Ranks of the recalls that SSENSE reports for sentences."""
METRICS = (*(f"recall@{k}" for k in RECALL_AT), "mrr")
QUERIES_PER_BLOCK = 512
"""Queries scored per block; a full N x N matrix would need O(N^2) memory."""


class NonFiniteError(ValueError):
    """A training diverged: its loss, or an embedding that it is judged by, is NaN or infinite."""


def metric_title(metric: str) -> str:
    """Spell a metric as papers do: "Recall@10", "MRR"."""
    return "MRR" if metric == "mrr" else metric.capitalize()


def retrieval_metrics(
    queries: Tensor, candidates: Tensor, targets: Tensor, recall_at: Sequence[int] = RECALL_AT
) -> dict[str, float]:
    """Recall@1, @10, @50 and mean reciprocal rank by cosine similarity, as fractions.

    Args:
        queries: Brain embeddings `[N, D]`.
        candidates: Embeddings of sentences or images `[M, D]`.
        targets: Index of each query's true candidate, `[N]`.
        recall_at: Other ranks to take the recall at.

    Raises:
        NonFiniteError: An embedding is not finite.
        ValueError: There is no query, or a target is out of range.
    """
    return metrics_of(retrieval_ranks(queries, candidates, targets), recall_at)


def retrieval_ranks(queries: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
    """Rank of each query's target among the candidates, 1 the best, ties at mid-rank.

    Repeated sentences tie by construction: a candidate's embedding is scored once and its copies
    share the score, so rounding cannot order them.

    Args:
        queries: Brain embeddings `[N, D]`.
        candidates: Embeddings of sentences or images `[M, D]`.
        targets: Index of each query's true candidate, `[N]` integers in [0, M).

    Returns:
        `[N]` float64; half-integers where a tie has an even number of members.

    Raises:
        ValueError: See `retrieval_metrics`.
    """
    _check_retrieval(queries, candidates, targets)
    distinct, copy_of = _distinct_directions(candidates)
    blocks = zip(queries.split(QUERIES_PER_BLOCK), targets.split(QUERIES_PER_BLOCK), strict=True)
    return torch.cat([ranks_of(_scores(some, distinct, copy_of), own) for some, own in blocks])


def cosine_scores(queries: Tensor, candidates: Tensor) -> Tensor:
    """Cosine similarity `[N, M]` float64 of `[N, D]` queries and `[M, D]` candidates.

    Copies of a candidate have the same score to the bit.
    """
    return _scores(queries, *_distinct_directions(candidates))


def _distinct_directions(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors float64 `[K, D]` of the distinct candidates, and which each is, `[M]`."""
    distinct, copy_of = torch.unique(candidates, dim=0, return_inverse=True)
    # float64, so that near neighbours are ordered by the embeddings and not by rounding
    return normalize(distinct.double(), dim=1), copy_of


def _scores(queries: Tensor, distinct: Tensor, copy_of: Tensor) -> Tensor:
    return (normalize(queries.double(), dim=1) @ distinct.T)[:, copy_of]


def ranks_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank `[N]` float64 of each row's target in `[N, M]` scores, 1 the highest, ties at mid-rank.

    A candidate with the score -inf does not count: it ranks behind all others.

    Raises:
        ValueError: A score is NaN, which has no rank.
    """
    if scores.isnan().any():
        raise ValueError("scores must be numbers; found NaN")
    target_score = scores.gather(1, targets[:, None])
    better = (scores > target_score).sum(dim=1)
    tied = (scores == target_score).sum(dim=1)
    return better + (tied + 1) / 2.0


def metrics_of(ranks: Tensor, recall_at: Sequence[int] = RECALL_AT) -> dict[str, float]:
    """Recall@1, @10, @50 and mean reciprocal rank of `[N]` ranks, as fractions."""
    recalls = {f"recall@{k}": (ranks <= k).double().mean().item() for k in recall_at}
    return {**recalls, "mrr": (1 / ranks).mean().item()}


def metric_values(metric: str, ranks: np.ndarray) -> np.ndarray:
    """What each query contributes to a metric, whose mean over queries is the metric.

    Args:
        metric: "mrr" or "recall@k".
        ranks: Ranks of true candidates, of any shape.

    Returns:
        Float64 of the same shape: 1 / rank, or 1 where the rank is at most k.
    """
    if metric == "mrr":
        return 1 / ranks.astype(np.float64)
    return (ranks <= int(metric.removeprefix("recall@"))).astype(np.float64)


def chance_metrics(n_candidates: int, recall_at: Sequence[int] = RECALL_AT) -> dict[str, float]:
    """Expected metrics of a uniformly random ranking of `n_candidates`, as fractions.

    Recall@k is k / n; the mean reciprocal rank is the harmonic number H_n / n.

    Raises:
        ValueError: There is no candidate.
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be at least 1, got {n_candidates}")
    recalls = {f"recall@{k}": min(k / n_candidates, 1.0) for k in recall_at}
    harmonic = sum(1 / rank for rank in range(1, n_candidates + 1))
    return {**recalls, "mrr": harmonic / n_candidates}


def _check_retrieval(queries: Tensor, candidates: Tensor, targets: Tensor) -> None:
    if len(queries) == 0 or len(queries) != len(targets):
        raise ValueError(f"got {len(queries)} queries for {len(targets)} targets; need one each")
    if not (queries.isfinite().all() and candidates.isfinite().all()):
        raise NonFiniteError("embeddings must be finite; found NaN or infinity")
    if targets.min() < 0 or targets.max() >= len(candidates):
        raise ValueError(
            f"targets must be in [0, {len(candidates)}), got {targets.min()} to {targets.max()}"
        )
