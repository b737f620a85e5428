"""Temporal generalisation: what was learned in one window of time, tested at the others.

King and Dehaene 2014, "Characterizing the dynamics of mental representations: the temporal
generalization method", Trends in Cognitive Sciences 18.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.measure.comparison import Comparison
from analysis.measure.evaluation import (
    DatasetOf,
    Evaluation,
    Retrieval,
    check_split,
    evaluation_of,
    held_out_retrieval,
    splits_of,
)
from analysis.measure.inference import benjamini_hochberg
from analysis.measure.windows import Windows
from ssense.data.splits import Split
from ssense.engine.core.cell import Configuration
from ssense.engine.core.power import ALPHA
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.specification import configured
from ssense.training.process import any_device

_TESTED_AT = ", tested at "


@dataclass(frozen=True, kw_only=True, eq=False)
class Generalisation:
    """What the encoders of W windows retrieve at each of them, on the seeds' test splits.

    Attributes:
        windows: Where each window begins and ends, seconds after the onset, by family.
        evaluation: Scores by window trained at and window tested at, all pairs of them.
    """

    windows: Windows
    evaluation: Evaluation

    @property
    def metric(self) -> str:
        """The metric that tests are about."""
        return self.evaluation.primary

    @property
    def chance(self) -> float:
        """What a random ranking reaches, as a fraction."""
        return self.evaluation.chance[self.metric]

    def by_seed(self, metric: str) -> np.ndarray:
        """Scores `[J, W, W]` of each seed, trained at the first and tested at the second window."""
        scores = [each[metric] for each in self.evaluation.scores.values()]
        return np.stack(scores, axis=1).reshape(-1, len(self.windows), len(self.windows))

    @property
    def _same(self) -> np.ndarray:
        """Which scores are of a window trained and tested at, bool `[W * W]`."""
        return np.eye(len(self.windows), dtype=bool).ravel()

    @cached_property
    def tests(self) -> list[Comparison]:
        """Each mean's test against chance, window by window trained at.

        Holm is over the windows trained and tested at, whose tests are those of the evaluation, and
        over all pairs of two windows, which are another question.

        A matrix that is above chance everywhere would be suspicious: what is the same at all times,
        before the onset too, is no response to the sentence. So would be one that is above chance
        off the diagonal alone.
        """
        names, found = np.array([*self.evaluation.retrievals]), dict[str, Comparison]()
        for kind in (names[self._same], names[~self._same]):
            tests = self.evaluation.from_chance(self.metric, kind.tolist())
            found |= dict(zip(kind.tolist(), tests, strict=True))
        return [found[name] for name in names.tolist()]

    @cached_property
    def p_fdr(self) -> np.ndarray:
        """P-values `[W * W]` adjusted by Benjamini and Hochberg, over the same kinds."""
        p = np.array([test.corrected.pvalue for test in self.tests])
        for kind in (self._same, ~self._same):
            p[kind] = benjamini_hochberg(p[kind])
        return p

    @cached_property
    def found(self) -> np.ndarray:
        """Which `[W, W]` are shown to be above chance, by Holm."""
        n = len(self.windows)
        shown = [test.p_holm < ALPHA and test.corrected.mean > 0 for test in self.tests]
        return np.array(shown).reshape(n, n)


def generalise(
    search: Search,
    chosen: Mapping[str, Configuration],
    windows: Windows,
    ledger: Ledger,
    dataset_of: DatasetOf,
    on_window: Callable[[int, int], object],
) -> Generalisation:
    """Test the encoders of each window at every window.

    Features are those of the window that is tested, as its own encoders are given them. What an
    encoder has learned of its window, such as means and spreads, stays as it is.

    Args:
        search: A search that has the cells of the windows' configurations.
        chosen: The configuration of each window, by family.
        windows: Where each window begins and ends, by family, in order.
        ledger: The ledger that has the encoders.
        dataset_of: Gives the dataset of a configuration.
        on_window: Called with how many windows were tested at, and of how many.

    Raises:
        UserError: An encoder can't be read, or was trained on another split.
    """
    splits: dict[int, Split] = {}
    found: dict[tuple[str, str], list[Retrieval]] = {}
    for done, tested in enumerate(windows, 1):  # one window's features in memory at a time
        dataset = dataset_of(chosen[tested])
        pairs = dataset.on(any_device())
        splits = splits or splits_of(dataset, search.sweep)
        parts = {seed: pairs.select(split.test) for seed, split in splits.items()}
        for trained in windows:
            specification = configured(search.sweep.specification, chosen[trained])
            for record in search.done(chosen[trained]):
                split = specification.cell_split(splits[record.seed], record.seed)
                check_split(ledger, record, split)
                retrieval = held_out_retrieval(ledger, record, specification, parts[record.seed])
                found.setdefault((trained, tested), []).append(retrieval)
        on_window(done, len(windows))
    in_order = {(a, b): f"{a}{_TESTED_AT}{b}" for a in windows for b in windows}
    evaluation = evaluation_of(
        search.sweep,
        {name: chosen[trained] for (trained, _), name in in_order.items()},
        splits,
        {name: found[pair] for pair, name in in_order.items()},
    )
    return Generalisation(windows=windows, evaluation=evaluation)
