"""What can be retrieved without the brain: from a sentence's duration, place in the movie or sound.

Functions from plain tensors to scores of candidates; none of them sees a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.measure.inference import ROUNDING
from ssense.retrieval import cosine_scores, metrics_of, ranks_of
from ssense.training.loop import SELECTION_RANK

# Shares of a standard deviation: from almost nearest neighbours to almost all.
BANDWIDTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
WEIGHTS = tuple(i / 10 for i in range(11))
"""Weights of the first of two scores that are mixed: 0 leaves the second alone, 1 the first."""
SIMILAR = 0.1
"""Spoken durations within a tenth of each other are similar."""


def length_scores(
    train_duration: Tensor, train_length: Tensor, duration: Tensor, length: Tensor
) -> Tensor:
    """Score candidates by how near their length is to the one that a duration suggests.

    The suggestion is a straight line, fitted to the training sentences by least squares.

    Args:
        train_duration: Duration of each training sentence, `[K]` seconds.
        train_length: Length of each training sentence, `[K]` characters.
        duration: Duration of each query, `[N]` seconds.
        length: Length of each candidate, `[M]` characters.

    Returns:
        `[N, M]`, higher is nearer.
    """
    ones = torch.ones_like(train_duration)
    line = torch.linalg.lstsq(torch.stack([train_duration, ones], 1), train_length[:, None])
    slope, intercept = line.solution.flatten()
    off: Tensor = length[None, :] - (slope * duration + intercept)[:, None]
    return -off.abs()


def smoothed_targets(
    train_at: Tensor, train_targets: Tensor, at: Tensor, bandwidth: float
) -> Tensor:
    """Average the training sentences' embeddings around a value (Nadaraya and Watson, 1964).

    Features that are the same for all training sentences are ignored; if all are, the average is
    over all sentences.

    Args:
        train_at: Values of the training sentences `[K]`, such as durations or onsets, or `[K, F]`
            of several features.
        train_targets: Targets of the training sentences `[K, D]`.
        at: Values of the queries, `[N]` or `[N, F]`.
        bandwidth: Bandwidth of the Gaussian kernel, in standard deviations of `train_at`.

    Returns:
        `[N, D]`, to be compared with candidates.
    """
    known, asked = (values.reshape(len(values), -1) for values in (train_at, at))
    spread = known.std(dim=0)
    varies = spread > 0
    scale = bandwidth * spread[varies]
    # Products would round away the small distances that matter to a narrow kernel.
    exactly = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(asked[:, varies] / scale, known[:, varies] / scale, compute_mode=exactly)
    return torch.softmax(-0.5 * distance**2, dim=1) @ train_targets


def best_bandwidth(train_at: Tensor, train_targets: Tensor, at: Tensor, targets: Tensor) -> float:
    """The bandwidth with the best Recall@10 on validation sentences; the first of equals.

    Args:
        train_at: Values of the training sentences, `[K]` or `[K, F]`, as in `smoothed_targets`.
        train_targets: Targets of the training sentences `[K, D]`.
        at: Values of the validation sentences, `[N]` or `[N, F]`.
        targets: Targets of the validation sentences `[N, D]`.
    """
    return max(
        BANDWIDTHS,
        key=lambda bandwidth: own_recall(
            cosine_scores(smoothed_targets(train_at, train_targets, at, bandwidth), targets)
        ),
    )


def own_recall(scores: Tensor) -> float:
    """The recall that choices go by of `[N, N]` scores, the i-th candidate the i-th query's own."""
    ranks = ranks_of(scores, torch.arange(len(scores)))
    return (ranks <= SELECTION_RANK).double().mean().item()


def standardised(train: Tensor, values: Tensor) -> Tensor:
    """Features in standard deviations of the training sentences; an unknown one is their mean.

    Args:
        train: Features of the training sentences, `[K, F]`, NaN where unknown.
        values: Features of the sentences to standardise, `[N, F]`, NaN where unknown.

    Returns:
        `[N, F]`, finite; 0 in a feature that is the same, or unknown, for all of training.
    """
    mean = train.nanmean(dim=0)
    spread = (train - mean).square().nanmean(dim=0).sqrt()
    scale = spread.where(spread > ROUNDING * mean.abs(), torch.inf)
    return ((values - mean) / scale).nan_to_num(nan=0.0)


def mixed_scores(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Add two scores of the same candidates, each made comparable first.

    The scores have units of their own, characters and cosines, so each query's are divided by
    their standard deviation over its candidates. Ranks would do that too, but would make the
    candidates that one score takes for equal, or nearly so, as far apart as all others.

    Args:
        first: Scores `[N, M]`, higher is better.
        second: Other scores of the same candidates, `[N, M]`.
        weight: Weight of the first scores, from 0 to 1; the second have the rest.

    Returns:
        `[N, M]`; at 0 and 1 in the order of one of them alone.
    """
    return weight * _per_query(first) + (1 - weight) * _per_query(second)


def best_weight(first: Tensor, second: Tensor) -> float:
    """The weight that mixes two scores for the best Recall@10; the first of equals.

    It reaches at least what either score reaches alone, on the sentences that it is chosen on.

    Args:
        first: Scores `[N, N]` of validation sentences, the i-th candidate the i-th query's own.
        second: Other scores of the same candidates, `[N, N]`.
    """
    return max(WEIGHTS, key=lambda weight: own_recall(mixed_scores(first, second, weight)))


def _per_query(scores: Tensor) -> Tensor:
    centred = scores - scores.mean(dim=1, keepdim=True)
    spread = centred.square().mean(dim=1, keepdim=True).sqrt()
    largest = scores.abs().amax(dim=1, keepdim=True)
    return centred / spread.where(spread > ROUNDING * largest, torch.inf)  # all alike: none better


def of_similar_duration(scores: Tensor, duration: Tensor) -> Tensor:
    """Leave to each query the candidates of similar duration, its own among them.

    Args:
        scores: Scores `[N, N]`, the i-th candidate the i-th query's own.
        duration: Time from the first word's onset to the last one's offset, `[N]` seconds.
    """
    pairs = duration[None, :], duration[:, None]
    similar = torch.minimum(*pairs) >= (1 - SIMILAR) * torch.maximum(*pairs)
    return scores.masked_fill(~similar, -torch.inf)


def chance_among(scores: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """What a random order of each query's candidates reaches; those with -inf do not count.

    Args:
        scores: Scores `[N, M]`, higher is nearer; -inf where there is no candidate.
        ks: Ranks k of the recalls.
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
        scores: Scores `[N, N]`, the i-th candidate the i-th query's own.
        bins: Bin of each query, `[N]` integers; all equal for a permutation of everything.
        permutations: Number of permutations.
        generator: Generator of the permutations.
    """
    shuffle = _within(bins, generator)
    # Ranked once: a permutation only chooses which candidate's rank counts.
    ranks = torch.from_numpy(rankdata(-scores.numpy(), axis=1)).float()  # as `ranks_of` has them
    own = torch.arange(len(scores))
    return [metrics_of(ranks[own, shuffle()]) for _ in range(permutations)]


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
