"""The map of one encoder: how its test queries rank their sentences without each of some parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.control.baselines import quantile_bins
from analysis.control.untrained import DURATION_BINS
from analysis.mapping.parts import ALONE, Part
from ssense.retrieval import chance_metrics, cosine_scores, metric_values, ranks_of
from ssense.training.sentences import SentenceSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class SeedMap:
    """How the queries of one seed's test split rank their sentences, part by part.

    Attributes:
        seed: The seed.
        parts: The K parts.
        intact: Ranks `[K, N]` float64 with everything, computed as those without the part are.
        occluded: Ranks `[K, N]` float64 without the part, or by the part alone.
        permuted: Effect `[P, K]` of each part on a metric where the pairing is permuted, by
            permutation; of no permutation where none was asked for.
        permuted_metric: The metric whose effects are permuted.
        candidates: Sentences that each query has to find its own among; 0 where they are those of
            the queries.
        similar: Effect `[K]` of each part on that metric where every query is paired with others
            of similar duration than its own, mean over them; None where durations are not known.
    """

    seed: int
    parts: Sequence[Part]
    intact: np.ndarray
    occluded: np.ndarray
    permuted: np.ndarray
    permuted_metric: str = SentenceSpec.primary
    candidates: int = 0
    similar: np.ndarray | None = None

    def effects(self, metric: str) -> np.ndarray:
        """What each query says of each part's effect on a metric, `[K, N]`.

        The effect of what is left out or hidden is what the metric loses; that of what stands alone
        is what it reaches above chance.
        """
        occluded = metric_values(metric, self.occluded)
        chance = chance_of(metric, self.candidates or self.occluded.shape[1])
        gained = occluded - chance
        lost = metric_values(metric, self.intact) - occluded
        is_alone = np.array([part.what in ALONE for part in self.parts])
        return np.where(is_alone[:, None], gained, lost)


def chance_of(metric: str, n: int) -> float:
    """What a random ranking of n candidates reaches."""
    recall_at = () if metric == "mrr" else (int(metric.removeprefix("recall@")),)
    return chance_metrics(n, recall_at)[metric]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairings:
    """What queries are paired with in place of their own sentences.

    Attributes:
        anywhere: Permutations `[P, N]` of the candidates; of none, for no permuted effects.
        similar: Which candidates `[N, N]` bool are others of similar duration; None where that is
            not known.
    """

    anywhere: np.ndarray
    similar: np.ndarray | None = None

    def of(self, queries: np.ndarray) -> Pairings:
        """The pairings of some of the queries `[Q]`, with all candidates."""
        similar = None if self.similar is None else self.similar[queries]
        return Pairings(anywhere=self.anywhere[:, queries], similar=similar)


NO_PAIRINGS = Pairings(anywhere=np.empty((0, 0), np.int64))


def of_similar_duration(spoken_s: np.ndarray) -> np.ndarray:
    """Which candidates `[N, N]` bool are others of similar duration, by bins of as many sentences.

    Args:
        spoken_s: Duration of each sentence `[N]`, seconds.
    """
    n = len(spoken_s)
    bins = quantile_bins(torch.from_numpy(spoken_s), max(1, min(DURATION_BINS, n // 4))).numpy()
    same: np.ndarray = bins[:, None] == bins
    np.fill_diagonal(same, False)
    return same


class Occluding(Protocol):
    """Embeds queries from which parts are hidden."""

    def intact(self, part: Part) -> Tensor:
        """Embed everything, `[Q, D]`, in the way that it is embedded without the part."""

    def without(self, part: Part) -> Tensor:
        """Embed the queries `[Q, D]` by what is left without a part, or by it alone."""


def map_of(
    seed: int,
    occluder: Occluding,
    parts: Sequence[Part],
    candidates: Tensor,
    metric: str,
    pairings: Pairings = NO_PAIRINGS,
    queries: np.ndarray | None = None,
) -> SeedMap:
    """Rank the test sentences without each part.

    Args:
        seed: The seed.
        occluder: Embeds the queries without parts of them.
        parts: The K parts.
        candidates: Targets `[N, D]` of the test sentences, in their order.
        metric: The primary metric, whose effects are permuted.
        pairings: What the candidates are paired with in place of their own queries.
        queries: The candidates `[Q]` that are the queries' own; None for all, in their order.
    """
    own = np.arange(len(candidates)) if queries is None else queries
    among = pairings.of(own) if len(pairings.anywhere) else pairings
    whole: dict[bool, Ranked] = {}
    intact: list[np.ndarray] = []
    occluded: list[np.ndarray] = []
    permuted: list[np.ndarray] = []
    similar: list[float] = []
    for part in parts:
        by_electrodes = part.kept is not None
        if by_electrodes not in whole:
            whole[by_electrodes] = Ranked(occluder.intact(part), candidates, metric, own, among)
        found = Ranked(occluder.without(part), candidates, metric, own, among)
        before = whole[by_electrodes]
        chance, is_alone = chance_of(metric, len(candidates)), part.what in ALONE
        intact.append(before.own)
        occluded.append(found.own)
        permuted.append(
            found.if_permuted - chance if is_alone else before.if_permuted - found.if_permuted
        )
        similar.append(
            found.if_similar - chance if is_alone else before.if_similar - found.if_similar
        )
    return SeedMap(
        seed=seed,
        parts=parts,
        intact=np.stack(intact),
        occluded=np.stack(occluded),
        permuted=np.stack(permuted, axis=1),
        permuted_metric=metric,
        candidates=len(candidates),
        similar=None if among.similar is None else np.array(similar),
    )


class Ranked:
    """What queries retrieve, and would retrieve of other sentences than their own.

    Attributes:
        own: Ranks `[Q]` of the queries' own sentences.
        if_permuted: The metric `[P]` by permutation of the pairing.
        if_similar: The metric if each query were paired with others of similar duration, mean over
            them; NaN where these are not known.
    """

    def __init__(
        self,
        queries: Tensor,
        candidates: Tensor,
        metric: str,
        own: np.ndarray,
        pairings: Pairings = NO_PAIRINGS,
    ) -> None:
        scores = cosine_scores(queries, candidates).cpu()
        self.own = ranks_of(scores, torch.from_numpy(own)).numpy()
        self.if_permuted, self.if_similar = np.empty(0), math.nan
        if not len(pairings.anywhere):
            return
        values = metric_values(metric, rankdata(-scores.numpy(), axis=1))
        self.if_permuted = values[np.arange(len(values)), pairings.anywhere].mean(axis=1)
        if pairings.similar is not None:
            n_others = np.maximum(pairings.similar.sum(axis=1), 1)
            self.if_similar = float(((values * pairings.similar).sum(axis=1) / n_others).mean())


def pairings_of(n: int, permutations: int, seed: int, n_blocks: int = 0) -> np.ndarray:
    """Random permutations `[P, n]` of the pairing of a test split.

    Args:
        n: Sentences of the test split.
        permutations: Their number P.
        seed: What they are drawn from.
        n_blocks: Blocks of neighbours that stay together, after a shift of all by a random number
            of places; 0 where each sentence moves by itself.
    """
    generator = np.random.default_rng(seed)
    pairings = np.empty((permutations, n), np.int64)
    for pairing in pairings:
        pairing[:] = _permutation(n, generator, n_blocks)
    return pairings


def _permutation(n: int, generator: np.random.Generator, n_blocks: int) -> np.ndarray:
    if not n_blocks:
        return generator.permutation(n)
    blocks = np.array_split(np.roll(np.arange(n), generator.integers(n)), min(n_blocks, n))
    return np.concatenate([blocks[place] for place in generator.permutation(len(blocks))])
