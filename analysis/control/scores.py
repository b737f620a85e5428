"""What a control reaches, for comparison with the score that it explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.measure import formats
from analysis.measure.evaluation import Retrieval
from ssense.retrieval import metric_title
from ssense.training.sentences import SentenceSpec

PRIMARY = SentenceSpec.primary
"""The metric that controls are about."""


@dataclass(frozen=True, kw_only=True)
class ControlScores:
    """What a control reaches.

    Attributes:
        scores: Scores by metric, `[seeds]`, as fractions.
        chance: What a random order of the same candidates reaches, by metric, `[seeds]`.
        overlapping: Share of test segments that share samples with a training segment, mean over
            the seeds; None where the splits are those of the best configuration, which has it.
        pvalue: Result of a permutation test of the model's Recall@10, see `permutation_pvalue`,
            mean over the seeds; None where nothing is permuted.
        retrievals: What the queries of each seed's test split retrieve; empty where it is not asked
            for.
    """

    scores: Mapping[str, np.ndarray]
    chance: Mapping[str, np.ndarray]
    overlapping: float | None = None
    pvalue: float | None = None
    retrievals: Sequence[Retrieval] = ()


def permutation_pvalue(model: float, permuted: Sequence[float]) -> float:
    """Probability of so high a score by chance: (k + 1) / (n + 1) of k among n permutations.

    The pairing that was found is one of those possible, so p is never 0 (Phipson and Smyth 2010).

    Args:
        model: Score with the true pairing.
        permuted: Scores with permuted pairings; those that equal it count as reaching it.
    """
    reaching = int(np.sum(np.asarray(permuted) >= model))
    return (reaching + 1) / (len(permuted) + 1)


def control_rows(scores: Mapping[str, ControlScores]) -> list[dict[str, str]]:
    """Lay the controls out for people, mean and sd over seeds."""
    return [
        {"control": name}
        | formats.mean_scores(found.scores)
        | {f"chance {metric_title(PRIMARY)}": formats.score(PRIMARY, found.chance[PRIMARY].mean())}
        for name, found in scores.items()
    ]
