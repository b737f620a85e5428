"""What can be retrieved without the brain: from a sentence's duration or its place in the movie.

Plain tensors in, scores of candidates out; nothing here has seen a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssense.retrieval import cosine_scores, metrics_of, ranks_of

# Of the standard deviation of what is smoothed over: from almost nearest neighbours to almost all.
BANDWIDTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SIMILAR = 0.1
"""Durations within a tenth of each other are similar."""


def length_scores(
    train_duration: Tensor, train_length: Tensor, duration: Tensor, length: Tensor
) -> Tensor:
    """Score candidates by how near their length is to the one that a duration suggests.

    The suggestion is a straight line, fitted to the training sentences by least squares.

    Args:
        train_duration: `[K]` seconds.
        train_length: `[K]` characters.
        duration: `[N]` seconds, of the queries.
        length: `[M]` characters, of the candidates.

    Returns:
        `[N, M]`, higher is nearer.
    """
    ones = torch.ones_like(train_duration)
    line = torch.linalg.lstsq(torch.stack([train_duration, ones], 1), train_length[:, None])
    slope, intercept = line.solution.flatten()
    return -(length[None, :] - (slope * duration + intercept)[:, None]).abs()


def smoothed_text(train_at: Tensor, train_text: Tensor, at: Tensor, bandwidth: float) -> Tensor:
    """Average the training sentences' embeddings around a value (Nadaraya and Watson, 1964).

    Args:
        train_at: `[K]`, such as durations or onsets.
        train_text: `[K, D]`.
        at: `[N]`, of the queries.
        bandwidth: of the Gaussian kernel, in standard deviations of `train_at`.

    Returns:
        `[N, D]`, to be compared with candidates.
    """
    spread = train_at.std()
    if not spread:  # nothing to smooth over: every sentence is as near as any other
        return train_text.mean(dim=0).expand(len(at), -1)
    distance = (at[:, None] - train_at[None, :]) / (bandwidth * spread)
    return torch.softmax(-0.5 * distance**2, dim=1) @ train_text


def best_bandwidth(train_at: Tensor, train_text: Tensor, at: Tensor, text: Tensor) -> float:
    """The bandwidth with the best Recall@10 on validation sentences; the first of equals.

    Args:
        train_at: `[K]`, as in `smoothed_text`.
        train_text: `[K, D]`.
        at: `[N]`, of the validation sentences.
        text: `[N, D]`, of these.
    """

    def recall(bandwidth: float) -> float:
        queries = smoothed_text(train_at, train_text, at, bandwidth)
        ranks = ranks_of(cosine_scores(queries, text), torch.arange(len(text)))
        return (ranks <= 10).double().mean().item()

    return max(BANDWIDTHS, key=recall)


def of_similar_duration(scores: Tensor, duration: Tensor) -> Tensor:
    """Leave to each query the candidates of similar duration, its own among them.

    Args:
        scores: `[N, N]`, the i-th candidate the i-th query's own.
        duration: `[N]` seconds.
    """
    ratio = duration[None, :] / duration[:, None]
    similar = (ratio >= 1 - SIMILAR) & (ratio <= 1 / (1 - SIMILAR))
    return scores.masked_fill(~similar, -torch.inf)


def chance_among(scores: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """What a random order of each query's candidates reaches; those with -inf are none.

    Args:
        scores: `[N, M]`.
        ks: of the recalls.
    """
    counts = (scores > -torch.inf).sum(dim=1)
    recalls = {f"recall@{k}": (k / counts).clamp(max=1).mean().item() for k in ks}
    harmonic = torch.cumsum(1 / torch.arange(1, int(counts.max()) + 1).double(), 0)
    return {**recalls, "mrr": (harmonic[counts - 1] / counts).mean().item()}


def permuted_metrics(
    scores: Tensor, bins: Tensor, permutations: int, generator: torch.Generator
) -> list[dict[str, float]]:
    """Metrics after the pairing of queries and candidates was permuted within bins.

    Args:
        scores: `[N, N]`, the i-th candidate the i-th query's own.
        bins: `[N]` integers; all equal for a permutation of everything.
        permutations: how many.
        generator: of the permutations.
    """
    shuffle = _within(bins, generator)
    return [metrics_of(ranks_of(scores, shuffle())) for _ in range(permutations)]


def quantile_bins(values: Tensor, n: int) -> Tensor:
    """Cut `[N]` values into n bins of equal size, by rank; `[N]` integers."""
    order = values.argsort(stable=True).argsort(stable=True)
    return order * n // len(values)


def _within(bins: Tensor, generator: torch.Generator) -> Callable[[], Tensor]:
    place = bins.argsort(stable=True)

    def shuffle() -> Tensor:
        # Sorted by bin, and within a bin at random: the i-th place meets another of its bin.
        noise = torch.rand(len(bins), generator=generator, dtype=torch.float64)
        drawn = noise.argsort()
        drawn = drawn[bins[drawn].argsort(stable=True)]
        target = torch.empty_like(drawn)
        target[place] = drawn
        return target

    return shuffle
