"""The map of one encoder: how its test queries rank their sentences without each of some parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.mapping.occlusion import Occluder
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
    """

    seed: int
    parts: Sequence[Part]
    intact: np.ndarray
    occluded: np.ndarray
    permuted: np.ndarray
    permuted_metric: str = SentenceSpec.primary

    def effects(self, metric: str) -> np.ndarray:
        """What each query says of each part's effect on a metric, `[K, N]`.

        The effect of what is left out or hidden is what the metric loses; that of what stands alone
        is what it reaches above chance.
        """
        occluded = metric_values(metric, self.occluded)
        chance = chance_of(metric, self.occluded.shape[1])
        gained = occluded - chance
        lost = metric_values(metric, self.intact) - occluded
        is_alone = np.array([part.what in ALONE for part in self.parts])
        return np.where(is_alone[:, None], gained, lost)


def chance_of(metric: str, n: int) -> float:
    """What a random ranking of n candidates reaches."""
    recall_at = () if metric == "mrr" else (int(metric.removeprefix("recall@")),)
    return chance_metrics(n, recall_at)[metric]


def map_of(
    seed: int,
    occluder: Occluder,
    parts: Sequence[Part],
    candidates: Tensor,
    metric: str,
    pairings: np.ndarray,
) -> SeedMap:
    """Rank the test sentences without each part.

    Args:
        seed: The seed.
        occluder: Embeds the test split without parts of it.
        parts: The K parts.
        candidates: Targets `[N, D]` of the test sentences, in their order.
        metric: The primary metric, whose effects are permuted.
        pairings: Permutations `[P, N]` of the test sentences; of none, for no permuted effects.
    """
    whole: dict[bool, Ranked] = {}
    intact, occluded, permuted = [], [], []
    for part in parts:
        by_electrodes = part.kept is not None
        if by_electrodes not in whole:
            whole[by_electrodes] = Ranked(occluder.intact(part), candidates, metric, pairings)
        found = Ranked(occluder.without(part), candidates, metric, pairings)
        intact.append(whole[by_electrodes].own)
        occluded.append(found.own)
        permuted.append(
            found.if_permuted - chance_of(metric, len(candidates))
            if part.what in ALONE
            else whole[by_electrodes].if_permuted - found.if_permuted
        )
    return SeedMap(
        seed=seed,
        parts=parts,
        intact=np.stack(intact),
        occluded=np.stack(occluded),
        permuted=np.stack(permuted, axis=1),
        permuted_metric=metric,
    )


class Ranked:
    """What queries retrieve, and would retrieve of sentences that they are permuted to.

    Attributes:
        own: Ranks `[N]` of the queries' own sentences.
        if_permuted: The metric `[P]` by permutation of the pairing.
    """

    def __init__(
        self, queries: Tensor, candidates: Tensor, metric: str, pairings: np.ndarray
    ) -> None:
        scores = cosine_scores(queries, candidates).cpu()
        self.own = ranks_of(scores, torch.arange(len(scores))).numpy()
        self.if_permuted = np.empty(0)
        if len(pairings):
            values = metric_values(metric, rankdata(-scores.numpy(), axis=1))
            self.if_permuted = values[np.arange(len(values)), pairings].mean(axis=1)


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


def mean_effects(maps: Iterable[SeedMap], metric: str) -> np.ndarray:
    """The mean effect of each part at each seed, `[J, K]`."""
    return np.stack([each.effects(metric).mean(axis=1) for each in maps])
