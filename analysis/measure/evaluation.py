"""The evaluation of chosen configurations on the held-out test splits of their seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.measure.comparison import (
    IMAGES_LEGEND,
    LEGEND,
    SHARES,
    STIMULI_LEGEND,
    Comparison,
    Difference,
    above,
    bounded,
    compare,
    difference_over_seeds,
    difference_over_stimuli,
    paired_differences,
    pairs_of,
)
from analysis.measure.inference import (
    TTest,
    corrected_resampled_ttest,
    pairing_test,
    stimulus_tests,
    variance_of_stimuli,
)
from ssense.cli.command import shell_command
from ssense.data.splits import Split
from ssense.engine.core.cell import Configuration, label
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import check_versions, split_digest
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.errors import UserError, counted, one_line
from ssense.files.source_code import code_digest
from ssense.files.storage import exists
from ssense.retrieval import (
    chance_metrics,
    cosine_scores,
    metric_values,
    metrics_of,
    ranks_of,
)
from ssense.specification import configured
from ssense.training.loop import Data, Specification
from ssense.training.process import any_device
from ssense.training.tasks import TaskData, TaskPart, TaskSpec

Made = TypeVar("Made")
DatasetOf = Callable[[Configuration], TaskData]
"""Gives the dataset that the cells of a configuration are trained on."""

FIRST = 5
"""How many of the stimuli that a query retrieves are kept."""


def by_metric(metrics: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Gather the metrics of several seeds, `[seeds]` each."""
    return {name: np.array([each[name] for each in metrics]) for name in metrics[0]}


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average metrics over seeds."""
    return {name: float(values.mean()) for name, values in by_metric(metrics).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieval:
    """What the queries of one test split retrieved, in the order of the split.

    Attributes:
        stimuli: The stimulus `[n_test]` of the dataset that each query is of; all of them are the
            candidates of each query.
        ranks: Ranks `[n_test]` float64 of the true stimuli, 1 the best, ties at mid-rank.
        first: Stimuli `[n_test, FIRST]` of the dataset that were retrieved first, the best first.
        all_ranks: Ranks `[n_test, n_test]` float32 of every candidate for every query; only where
            all seeds share the test split, whose pairs can then be permuted.
    """

    stimuli: np.ndarray
    ranks: np.ndarray
    first: np.ndarray
    all_ranks: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the chosen configurations retrieved on their seeds' test splits.

    Attributes:
        specification: What all cells share: the metric, and what one stimulus is called.
        chosen: The best configuration of each family.
        splits: The split of each seed at which the configurations were evaluated.
        retrievals: What each family retrieved, one entry per seed.
    """

    specification: TaskSpec
    chosen: Mapping[str, Configuration]
    splits: Mapping[int, Split]
    retrievals: Mapping[str, Sequence[Retrieval]]

    @property
    def primary(self) -> str:
        """The metric that tests are about."""
        return self.specification.primary

    @property
    def stimulus(self) -> str:
        """What one stimulus is called in words."""
        return self.specification.stimulus

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds at which the configurations were evaluated."""
        return tuple(self.splits)

    @property
    def n_train(self) -> int:
        """Examples of the whole training split, mean over the seeds."""
        return round(np.mean([len(split.train) for split in self.splits.values()]))

    def cell_splits(self, family: str) -> dict[int, Split]:
        """The splits by seed as the cells of a family had them, with its share to train on."""
        specification = configured(self.specification, self.chosen.get(family, {}))
        return {seed: specification.cell_split(split, seed) for seed, split in self.splits.items()}

    def n_trained(self, family: str) -> int:
        """Examples of it that the cells of a family were trained on, mean over the seeds."""
        return round(np.mean([len(each.train) for each in self.cell_splits(family).values()]))

    @property
    def n_test(self) -> int:
        """Examples of the test split, mean over the seeds."""
        return round(np.mean([len(split.test) for split in self.splits.values()]))

    def sizes(self, *families: str) -> tuple[int, int]:
        """Sizes that tests over seeds must allow for, see `resampled_sizes`, means over seeds.

        Where families were trained on different shares, the smallest: the fewer to train on, the
        more the tests allow for.
        """
        of_families = [
            [self.specification.resampled_sizes(split) for split in self.cell_splits(name).values()]
            for name in families
        ]
        n_train, n_test = np.mean(of_families, axis=1).min(axis=0).round().astype(int).tolist()
        return n_train, n_test

    @property
    def test_blocks(self) -> int | None:
        """Where all seeds share one test split: the blocks of neighbours that are the units of the
        tests, or 0 where each stimulus is one. None where seeds draw test splits anew, and are the
        units.
        """
        return self.specification.test_blocks if self.specification.shares_test else None

    @cached_property
    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """Scores by family and metric, `[seeds]`, as fractions."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for family, retrievals in self.retrievals.items():
            ranks = [torch.from_numpy(each.ranks) for each in retrievals]
            at = self.specification.recall_at
            found[family] = by_metric([metrics_of(of_seed, at) for of_seed in ranks])
        return found

    @property
    def chance_by_seed(self) -> dict[str, np.ndarray]:
        """What a random ranking of the test stimuli reaches, by metric, `[seeds]`."""
        tests = next(iter(self.retrievals.values()))
        at = self.specification.recall_at
        return by_metric([chance_metrics(len(test.ranks), at) for test in tests])

    @property
    def chance(self) -> dict[str, float]:
        """What a random ranking of the test stimuli reaches, mean over the seeds."""
        return {name: float(values.mean()) for name, values in self.chance_by_seed.items()}

    def comparisons(self, metric: str) -> list[Comparison]:
        """Compare each family with chance, and families in pairs; Holm within each kind."""
        if metric not in self._compared:
            self._compared[metric] = self._compare(metric)
        return self._compared[metric]

    @cached_property
    def _compared(self) -> dict[str, list[Comparison]]:
        """Comparisons by metric, as far as they were asked for."""
        return {}

    def _compare(self, metric: str) -> list[Comparison]:
        of_stimuli = self.test_blocks is not None
        in_pairs = self._pair_over_stimuli if of_stimuli else self._pair_over_seeds
        pairs = [in_pairs(metric, *pair) for pair in pairs_of(self.retrievals)]
        return self.from_chance(metric) + compare(pairs)

    def from_chance(self, metric: str, families: Sequence[str] = ()) -> list[Comparison]:
        """Compare families with chance, all of them where none is named; Holm over these."""
        of_stimuli = self.test_blocks is not None
        with_chance = self._chance_over_stimuli if of_stimuli else self._chance_over_seeds
        return compare([with_chance(metric, each) for each in families or self.retrievals])

    @property
    def legend(self) -> str:
        """Explains the tests."""
        if self.test_blocks is None:
            return LEGEND
        return STIMULI_LEGEND if self.test_blocks else IMAGES_LEGEND

    @property
    def p_of(self) -> str:
        """What a p-value of the tests is called in a sentence."""
        return "corrected p" if self.test_blocks is None else f"p over {self.stimulus}s"

    def values(self, metric: str, family: str) -> list[np.ndarray]:
        """What each query contributes to a metric, by seed `[n_test]`."""
        return [metric_values(metric, each.ranks) for each in self.retrievals[family]]

    def means(self, metrics: Sequence[str], family: str) -> list[TTest]:
        """A family's mean of each metric, with the interval that its tests allow it."""
        values = [self.values(metric, family) for metric in metrics]
        if self.test_blocks is not None:
            over_seeds = [np.mean(by_seed, axis=0) for by_seed in values]
            return stimulus_tests(np.stack(over_seeds, axis=1), self._n_blocks)
        sizes = self.sizes(family)
        return [_mean_over_seeds(by_seed, *sizes) for by_seed in values]

    @property
    def _n_blocks(self) -> int:
        """Blocks of the shared test split; as many as it has stimuli, where each is a unit."""
        return self.test_blocks or self.n_test

    def _pair_over_seeds(self, metric: str, first: str, second: str) -> Difference:
        pairs = zip(self.values(metric, first), self.values(metric, second), strict=True)
        sizes = self.sizes(first, second)
        smallest = variance_of_stimuli([a - b for a, b in pairs], *sizes)
        a, b = self.scores[first][metric], self.scores[second][metric]
        name = f"{first} vs {second}"
        return difference_over_seeds(name, a, b, *sizes, smallest, bounds=SHARES)

    def _chance_over_seeds(self, metric: str, family: str) -> Difference:
        values, a = self.values(metric, family), self.scores[family][metric]
        sizes = self.sizes(family)
        guesses = [metric_values(metric, np.arange(1.0, len(row) + 1)) for row in values]
        smallest = max(variance_of_stimuli(rows, *sizes) for rows in (values, guesses))
        chance = self.chance_by_seed[metric]
        name = f"{family} vs chance"
        return difference_over_seeds(name, a, chance, *sizes, smallest, bounds=above(chance))

    def _pair_over_stimuli(self, metric: str, first: str, second: str) -> Difference:
        by_seed = paired_differences(self.scores[first][metric], self.scores[second][metric])
        a, b = (np.mean(self.values(metric, family), axis=0) for family in (first, second))
        by_stimulus = paired_differences(a, b)
        return difference_over_stimuli(f"{first} vs {second}", by_seed, by_stimulus, self._n_blocks)

    def _chance_over_stimuli(self, metric: str, family: str) -> Difference:
        chance = self.chance_by_seed[metric]
        by_seed = paired_differences(self.scores[family][metric], chance)
        # All have them: the seeds share one test split.
        found = [each.all_ranks for each in self.retrievals[family] if each.all_ranks is not None]
        if_own = np.mean([metric_values(metric, ranks) for ranks in found], axis=0)
        p_permuted, own = pairing_test(if_own, self._n_blocks), if_own.diagonal()
        name = f"{family} vs chance"
        return difference_over_stimuli(name, by_seed, own - chance[0], self._n_blocks, p_permuted)


def _mean_over_seeds(values: Sequence[np.ndarray], n_train: int, n_test: int) -> TTest:
    means = np.array([row.mean() for row in values])
    smallest = variance_of_stimuli(values, n_train, n_test)
    return bounded(corrected_resampled_ttest(means, n_train, n_test, smallest), (0.0, 1.0))


def take_up(ledger: Ledger) -> Search:
    """The search of a sweep as its ledger has it.

    Raises:
        UserError: There is a single seed, or cells of several versions of the code.
    """
    description = ledger.description()
    sweep = description.sweep
    if len(sweep.seeds) < 2:
        raise UserError(
            f"{sweep.name} has the single seed {sweep.seeds[0]}: nothing can be tested. "
            "Run the sweep again with more seeds."
        )
    records = check_versions(ledger.records(), code_digest(), description.kept_versions)
    return Search(sweep, POLICIES[description.policy], description.rows, records)


def require_all(search: Search) -> None:
    """Refuse a sweep with cells still to run.

    Raises:
        UserError: Cells are missing; the message lists them.
    """
    missing = missing_cells(search)
    if missing:
        shown = "; ".join(missing[:5]) + ("; ..." if len(missing) > 5 else "")
        raise UserError(
            f"{search.sweep.name} lacks {len(missing)} of its "
            f"{counted(search.sweep.n_cells, 'cell')}: {shown}. Run the sweep again to train them, "
            "or evaluate without them with `allow_missing`."
        )


def require_evaluated(ledger: Ledger) -> None:
    """Refuse a sweep whose test splits no evaluation has looked at yet.

    Raises:
        UserError: It has no report.
    """
    if not exists(ledger.folder / "evaluation" / "report.html"):
        command = shell_command(
            "analysis/evaluate.py", storage=ledger.storage, sweep=ledger.folder.name
        )
        raise UserError(
            f"{ledger.folder.name} has not been evaluated: this says more of a tested score. Run "
            f"{command} first."
        )


def missing_cells(search: Search) -> list[str]:
    """Name the cells without a result that the sweep's policy wants."""
    return [
        f"{label(row.family, row.configuration)} seed {cell.seed}"
        + (" (failed)" if search.record(cell) else "")
        for row, cell in search.missing()
    ]


def best_configurations(search: Search) -> dict[str, Configuration]:
    """Choose each family's configuration by its mean validation metric, of those with every seed.

    Raises:
        UserError: A family has none.
    """
    best = search.best()
    for family in search.sweep.families:
        if family.name not in best:
            why = [r.reason for row, r in search.failed() if row.family == family.name]
            reason = f"; one failed: {why[0]}" if why else ""
            raise UserError(
                f"{search.sweep.name}: no configuration of {family.name} has every seed{reason}. "
                "Run the sweep again, or give it other values to try."
            )
    return {family.name: best[family.name].configuration for family in search.sweep.families}


def leading_family(search: Search, chosen: Mapping[str, Configuration]) -> str:
    """The family whose chosen configuration has the best mean validation metric.

    Args:
        search: A search with a result of these configurations at every seed.
        chosen: The chosen configuration of each family.
    """
    scores = {family: search.score(configuration) for family, configuration in chosen.items()}
    known = {family: score for family, score in scores.items() if score is not None}
    return max(known, key=known.__getitem__)


def evaluate_chosen(
    search: Search, chosen: Mapping[str, Configuration], ledger: Ledger, dataset_of: DatasetOf
) -> Evaluation:
    """Evaluate a configuration of every family on the test splits of the search's seeds.

    Args:
        search: A search that has the cells of the configurations.
        chosen: The chosen configuration of each family.
        ledger: The ledger that has the encoders.
        dataset_of: Gives the dataset of a configuration. All of a sweep are split alike.

    Raises:
        UserError: An encoder can't be read, or was trained on another split.
    """
    splits: dict[int, Split] = {}
    retrievals: dict[str, list[Retrieval]] = {}
    for family, configuration in chosen.items():
        dataset = dataset_of(configuration)
        pairs = dataset.on(any_device())
        splits = splits or splits_of(dataset, search.sweep)
        specification = configured(search.sweep.specification, configuration)
        for record in search.done(configuration):
            split = splits[record.seed]
            check_split(ledger, record, specification.cell_split(split, record.seed))
            found = held_out_retrieval(ledger, record, specification, pairs.select(split.test))
            retrievals.setdefault(family, []).append(found)
    return evaluation_of(search.sweep, chosen, splits, retrievals)


def evaluation_of(
    sweep: Sweep,
    chosen: Mapping[str, Configuration],
    splits: Mapping[int, Split],
    retrievals: Mapping[str, Sequence[Retrieval]],
) -> Evaluation:
    """Gather what was retrieved at the seeds of a sweep, with what its tests have to know.

    Args:
        sweep: The sweep whose seeds were evaluated.
        chosen: The configurations that were evaluated, by family.
        splits: The splits by seed.
        retrievals: What was retrieved at each seed, by name of what is compared.
    """
    return Evaluation(
        specification=sweep.specification, chosen=chosen, splits=splits, retrievals=retrievals
    )


def check_split(ledger: Ledger, record: Record, split: Split) -> None:
    """Refuse to test a cell on another split than it was trained on.

    Args:
        ledger: The ledger of the sweep.
        record: The record of the cell.
        split: The split that its seed and its share of the training data give today.

    Raises:
        UserError: The rows differ, so that test examples may have been trained on.
    """
    if record.split_digest and record.split_digest != split_digest(split):
        raise UserError(
            f"cell {record.signature} was trained on another split than that of seed "
            f"{record.seed}: it may have seen test examples. {_advice(ledger, record)}"
        )


def splits_of(
    dataset: Data, sweep: Sweep, configuration: Configuration | None = None
) -> dict[int, Split]:
    """The splits of a dataset by the seeds of a sweep.

    Args:
        dataset: The dataset to divide.
        sweep: The sweep whose seeds divide it.
        configuration: The configuration whose cells' splits they are, with its share to train on;
            None for the whole splits, which all configurations share.
    """
    splits = {seed: dataset.split(sweep.specification.split, seed) for seed in sweep.seeds}
    if configuration is None:
        return splits
    specification = configured(sweep.specification, configuration)
    return {seed: specification.cell_split(split, seed) for seed, split in splits.items()}


def held_out_retrieval(
    ledger: Ledger, record: Record, specification: TaskSpec, test: TaskPart
) -> Retrieval:
    """What one cell's model retrieves on its seed's test split.

    Args:
        ledger: The sweep's ledger, which has the weights.
        record: The record of the cell.
        specification: The specification of the cell.
        test: The test split.

    Raises:
        UserError: The weights are missing, damaged, or another model's.
    """
    scores, stimuli = held_out_scores(ledger, record, specification, test)
    return retrieval_of(scores, stimuli, specification.shares_test)


def retrieval_of(scores: Tensor, stimuli: np.ndarray, shared: bool) -> Retrieval:
    """What scores `[n_test, n_test]` of queries and candidates retrieve; true pairs are diagonal.

    Args:
        scores: Scores of queries and candidates, higher is nearer.
        stimuli: The stimulus `[n_test]` of the dataset that each query is of.
        shared: Whether all seeds share this split.
    """
    ranks = ranks_of(scores, torch.arange(len(stimuli)))
    # Stable: candidates of one score, such as copies of a sentence, stay in the split's order.
    order = scores.argsort(dim=1, descending=True, stable=True)
    return Retrieval(
        stimuli=stimuli,
        ranks=ranks.numpy(),
        first=stimuli[order[:, :FIRST].numpy()],
        all_ranks=rankdata(-scores.numpy(), axis=1).astype(np.float32) if shared else None,
    )


def held_out_scores(
    ledger: Ledger, record: Record, specification: Specification[Any, Any], test: TaskPart
) -> tuple[Tensor, np.ndarray]:
    """Scores of queries and candidates on one cell's test split, on the CPU.

    Returns:
        Scores `[n_test, n_test]`, true pairs on the diagonal, and the stimulus `[n_test]` of each.

    Raises:
        UserError: The weights are missing, damaged, or another model's.
        ValueError: A stimulus of the test split has several queries, or none.
    """
    model = cell_model(ledger, record, lambda state: specification.rebuild(state, test))
    found = specification.embed(model, test)
    if not (found.queries.isfinite().all() and found.candidates.isfinite().all()):
        raise UserError(
            f"the encoder of cell {record.signature} is damaged: its embeddings must be finite; "
            f"found NaN or infinity. {_advice(ledger, record)}"
        )
    n_queries, n_candidates = len(found.queries), len(found.candidates)
    if n_queries != n_candidates or len(found.truth.unique()) != n_queries:
        raise ValueError(f"{n_queries} queries for {n_candidates} stimuli, not one for each")
    scores = cosine_scores(found.queries, found.candidates[found.truth]).cpu()
    return scores, found.stimuli[found.truth].cpu().numpy()


def cell_model(
    ledger: Ledger, record: Record, rebuild: Callable[[Mapping[str, Tensor]], Made]
) -> Made:
    """The model that a cell's training ended with.

    Args:
        ledger: The sweep's ledger, which has the weights.
        record: The record of the cell.
        rebuild: Makes the model of a state dictionary, and raises ValueError of another model's.

    Raises:
        UserError: The weights are missing, damaged, or another model's.
    """
    try:
        return rebuild(ledger.weights(record))
    except ValueError as error:
        raise _another_models(ledger, record, error) from error


def _another_models(ledger: Ledger, record: Record, error: ValueError) -> UserError:
    """The refusal of a cell's encoder whose weights don't fit the model that they are for."""
    return UserError(
        f"the encoder of cell {record.signature} belongs to another model ({one_line(error)}). "
        f"{_advice(ledger, record)}"
    )


def _advice(ledger: Ledger, record: Record) -> str:
    return f"Delete {ledger.cell_folder(record.signature)} and run the sweep again."
