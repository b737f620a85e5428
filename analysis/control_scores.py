"""What a control reaches, beside the score that it explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ssense.data.dataset import Dataset
from ssense.data.splits import Split, near


@dataclass(frozen=True, kw_only=True)
class ControlScores:
    """What a control reaches.

    Attributes:
        scores: by metric, `[seeds]`, as fractions.
        chance: by metric, `[seeds]`, what a random order of the same candidates reaches.
        overlapping: share of test segments that share samples with a training segment, mean over
            the seeds; None where the best configuration says it, whose splits they are.
        reaching: of permutations, the share that reaches the model's Recall@10; None otherwise.
    """

    scores: Mapping[str, np.ndarray]
    chance: Mapping[str, np.ndarray]
    overlapping: float | None = None
    reaching: float | None = None


def overlapping_share(dataset: Dataset, splits: Iterable[Split]) -> float:
    """Share of test segments that share samples with a training segment, mean over splits."""
    spans = dataset.spans_s
    return float(np.mean([near(spans[s.test], spans[s.train], gap=0).mean() for s in splits]))
