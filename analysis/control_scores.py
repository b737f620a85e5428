"""What a control reaches, beside the score that it explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssense.data.dataset import Dataset
from ssense.data.splits import Split, near
from ssense.retrieval import METRICS


@dataclass(frozen=True, kw_only=True)
class ControlScores:
    """What a control reaches.

    Attributes:
        scores: by metric, `[seeds]`, as fractions.
        chance: by metric, what a random order of the same candidates reaches, mean over the seeds.
        overlapping: share of test segments that share samples with a training segment, mean over
            the seeds; None where it is the sweep's own.
    """

    scores: Mapping[str, np.ndarray]
    chance: Mapping[str, float]
    overlapping: float | None = None


def by_metric(metrics: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Gather the metrics of several seeds, `[seeds]` each."""
    return {name: np.array([each[name] for each in metrics]) for name in METRICS}


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average metrics."""
    return {name: float(values.mean()) for name, values in by_metric(metrics).items()}


def overlapping_share(dataset: Dataset, splits: Sequence[Split]) -> float:
    """Share of test segments that share samples with a training segment, mean over splits."""
    spans = dataset.spans_s
    return float(np.mean([near(spans[s.test], spans[s.train], gap=0).mean() for s in splits]))
