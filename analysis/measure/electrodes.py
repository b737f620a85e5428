"""What encoders reach that are given some electrodes alone, as a search has tried them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from upath import UPath

from ssense.data.shards import read_manifest
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.search.search import Search
from ssense.training.loop import SELECTION_METRIC

FIELD = "data.subset"


@dataclass(frozen=True, kw_only=True)
class TriedElectrodes:
    """Electrodes that encoders were given alone, and what these reached.

    Attributes:
        family: Family of the configuration.
        configuration: The configuration.
        electrodes: Names of the electrodes.
        scores: Validation metric of the first seeds, as many as it met, as fractions.
        is_best: Whether the configuration is the best of its family, of those with every seed.
    """

    family: str
    configuration: Configuration
    electrodes: tuple[str, ...]
    scores: Sequence[float]
    is_best: bool

    @property
    def name(self) -> str:
        """What the electrodes are called."""
        return describe(self.configuration)

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return fmean(self.scores)


def tried_electrodes(
    search: Search, origin: RecordingOrigin, shards: UPath
) -> list[TriedElectrodes]:
    """What was tried of families whose configurations differ in their electrodes alone.

    Args:
        search: The search of a sweep.
        origin: Where its datasets come from.
        shards: Folder of the folders of shards, which name all electrodes.

    Returns:
        Those with a result, in the order in which they were proposed.
    """
    families = [each for each in search.sweep.families if each.levels.keys() == {FIELD}]
    of_electrodes = {family.name for family in families if sum(f.size for f in families) > 1}
    best = search.best()
    found = []
    for row in search.rows:
        if row.family not in of_electrodes:
            continue
        if scores := [r.best[SELECTION_METRIC] for r in search.done(row.configuration)]:
            dataset = origin.dataset(search.sweep.dataset_of(row.configuration))
            found.append(
                TriedElectrodes(
                    family=row.family,
                    configuration=row.configuration,
                    electrodes=dataset.electrodes or _all_of(shards / dataset.shards),
                    scores=scores,
                    is_best=best.get(row.family) is row,
                )
            )
    return found


def _all_of(folder: UPath) -> tuple[str, ...]:
    """The electrodes of a dataset that has all of its shards'."""
    return tuple(read_manifest(folder).electrodes)


def first_by_seed(tried: Sequence[TriedElectrodes], seeds: int) -> np.ndarray:
    """How often each is the best at a single seed, `[K]`, of those that met every seed.

    Args:
        tried: Electrodes of one family.
        seeds: Number of seeds of the sweep.

    Returns:
        Shares of the seeds; equals share one between them.
    """
    whole = np.array([len(each.scores) == seeds for each in tried])
    if not whole.any():
        return np.zeros(len(tried))
    table = np.full((len(tried), seeds), -np.inf)
    for row, each in zip(table, tried, strict=True):
        if len(each.scores) == seeds:
            row[:] = each.scores
    is_first = table >= table.max(axis=0) - 1e-12
    shares: np.ndarray = (is_first / is_first.sum(axis=0)).mean(axis=1)
    return shares
